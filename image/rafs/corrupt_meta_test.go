package rafs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
)

// oneBlob is a backend with one blob.
type oneBlob struct {
	id   string
	data []byte
}

func (o oneBlob) Size(_ context.Context, blob string) (int64, error) {
	if blob != o.id {
		return 0, fs.ErrNotExist
	}
	return int64(len(o.data)), nil
}

func (o oneBlob) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	if blob != o.id {
		return fs.ErrNotExist
	}
	if off < 0 || off > int64(len(o.data)) || copy(p, o.data[off:]) < len(p) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// withoutChunkTable is the small v6 image, whose chunks then only its blob
// tells, and that blob.
func withoutChunkTable(t *testing.T) (boot []byte, blob oneBlob) {
	t.Helper()
	boot = imagetest.File(t, "testdata", "rafs-v6-2.2.boot")
	x, _ := rafs.ParseExtSuper(boot[rafs.ExtSuperOffset:])
	x.ChunkTableSize = 0
	copy(boot[rafs.ExtSuperOffset:], x.Append(nil))
	const id = "be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef"
	return boot, oneBlob{id, imagetest.File(t, "testdata", id)}
}

// loaded opens the image, loads the chunk information from the blob and asks
// for all extents.
func loaded(t *testing.T, boot []byte, blob oneBlob) error {
	t.Helper()
	tree, err := openBytes(t, boot)
	if err != nil {
		return err
	}
	t.Cleanup(func() { tree.Close() })
	if err := tree.(image.MetaLoader).LoadMeta(t.Context(), blob); err != nil {
		return err
	}
	return imagetest.Walk(tree, 100, func(e *imagetest.Entry) error {
		if e.Mode&image.TypeMask != image.TypeRegular {
			return nil
		}
		_, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
		return err
	})
}

// Where the blob tells the chunks, it is not believed either.
func TestCorruptMeta(t *testing.T) {
	boot, blob := withoutChunkTable(t)
	if err := loaded(t, boot, blob); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	const table, header, infos = 8314, 8346, 4096
	toc := len(blob.data) - 512 // the tar header of the table of contents
	for _, tt := range []struct {
		name   string
		change func(boot, blob []byte)
		want   string
		format bool // a FormatError
	}{
		{"magic", func(_, b []byte) { b[header] ^= 1 }, "header of the chunk information", true},
		{"magic at the end", func(_, b []byte) { b[header+4095] ^= 1 }, "header of the chunk information", true},
		{"count", func(_, b []byte) { b[header+12]++ }, "header of the chunk information", true},
		{"size", func(_, b []byte) { b[header+32]++ }, "header of the chunk information", true},
		{"place in the image", func(b, _ []byte) { put64(infos+112, 1<<62)(b) }, "ends behind", true},
		{"size in the image", func(b, _ []byte) { put64(infos+120, 1<<62)(b) }, "ends behind", true},
		{"features", func(_, b []byte) { b[header+4] |= byte(rafs.BlobZran) }, "contexts", false},
		{"chunk size", func(_, b []byte) { binary.LittleEndian.PutUint64(b[table:], 0xfffff<<44) }, "blob.meta: chunk 0 of blob 0", true},
		{"chunk place", func(_, b []byte) { b[table+5] = 0xff }, "uncompressed range ends behind the blob", true},
		{"stored place", func(_, b []byte) { b[table+8+4] = 0xff }, "stored range", true},
		{"no table of contents", func(_, b []byte) { b[toc] ^= 1 }, "no such section", false},
		{"digest of the table of contents", func(_, b []byte) { b[toc-1] ^= 1 }, "table of contents has not the digest", false},
		{"digests", func(_, b []byte) { b[header+4096+512] ^= 1 }, "section blob.digest", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			boot, blob := bytes.Clone(boot), oneBlob{blob.id, bytes.Clone(blob.data)}
			tt.change(boot, blob.data)
			err := loaded(t, boot, blob)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if format := new(image.FormatError); errors.As(err, &format) != tt.format {
				t.Errorf("got %T %v, want a FormatError: %v", err, err, tt.format)
			}
		})
	}
	err := loaded(t, boot, oneBlob{"another", blob.data})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), blob.id) {
		t.Errorf("without the blob: got %v, want one that names it", err)
	}
	if err := loaded(t, boot, oneBlob{blob.id, blob.data[:header]}); err == nil || !strings.Contains(err.Error(), "ends behind") {
		t.Errorf("with a blob cut short: got %v", err)
	}
}
