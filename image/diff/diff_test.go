package diff_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/diff"
	"github.com/sluicefs/sluice/image/direct"
)

func open(t *testing.T, name string, change func([]byte)) image.Tree {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		b[1024+8] &^= 1 // no checksum
		change(b)
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := detect.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

const (
	v6    = "rafs/testdata/rafs-v6-2.2.boot"
	v5    = "rafs/testdata/v5-blake3-none-ext.boot"
	v5old = "rafs/testdata/v5-blake3-lz4-noext.boot"
	plain = "erofs/testdata/plain.erofs"
)

func TestChanges(t *testing.T) {
	for _, tt := range [...]struct {
		name, from, to string
		change         func(b []byte)
		want           []string
	}{
		{"alike", v6, v6, nil, nil},
		{"plain and chunks", plain, "erofs/testdata/chunks.erofs", nil, nil},
		{"name", v6, v6, func(b []byte) { b[bytes.Index(b, []byte("lib.rs"))] = 'a' }, []string{"/aib.rs added []", "/lib.rs removed []"}},
		{"mode", v6, v6, func(b []byte) { b[inode(b, 16931)+4] ^= 0o100 }, []string{"/lib.rs changed [mode]"}},
		{"size", v6, v6, func(b []byte) { binary.LittleEndian.PutUint64(b[inode(b, 16931)+8:], 16930) }, []string{"/lib.rs changed [size content]"}},
		{"digest", v6, v6, func(b []byte) { b[16384] ^= 1; b[16384+80] ^= 1 }, []string{"/lib.rs changed [content]", "/sync_io.rs changed [content]"}},
		{"data in the image", plain, plain, func(b []byte) { b[bytes.Index(b, []byte("1\n2\n3\n"))] = '7' }, []string{"/numbers changed [content]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			err := diff.Images(t.Context(), diff.Side{Tree: open(t, tt.from, nil)}, diff.Side{Tree: open(t, tt.to, tt.change)}, func(c diff.Change) bool {
				if !slices.Equal(c.What, []string{"time"}) { // the images are of different days
					got = append(got, fmt.Sprintln(c.Path, c.Kind, c.What))
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i] = got[i][:len(got[i])-1]
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// inode returns where the extended inode of that size is.
func inode(b []byte, size uint64) int {
	for off := 4096; off+64 <= len(b); off += 32 {
		if b[off]&1 == 1 && binary.LittleEndian.Uint64(b[off+8:]) == size {
			return off
		}
	}
	return -1
}

func TestEqualDigestsNeedNoBlobs(t *testing.T) {
	// The digests are of one kind, so that the contents compare equal without
	// blobs; only times and owners differ.
	dir, err := direct.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	err = diff.Images(t.Context(), diff.Side{Tree: open(t, v5, nil), Backend: dir}, diff.Side{Tree: open(t, v5old, nil)}, func(c diff.Change) bool {
		if c.Kind != diff.Changed || slices.Contains(c.What, "content") || slices.Contains(c.What, "content unknown") {
			t.Errorf("got %v", c)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = diff.Images(t.Context(), diff.Side{Tree: open(t, v5, nil)}, diff.Side{Tree: open(t, v5old, nil)}, func(diff.Change) bool { n++; return false })
	if err != nil || n != 1 {
		t.Errorf("stopped at once: got %d changes, %v", n, err)
	}
}
