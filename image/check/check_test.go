package check_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/imagetest"
)

// run checks an image with the blobs in a directory, or without blobs.
func run(t *testing.T, boot, blobs string) *check.Report {
	t.Helper()
	tree, err := detect.Open(boot, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	o := check.Options{Workers: 2}
	if blobs != "" {
		dir, err := direct.OpenDir(blobs)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		o.Backend = dir
	}
	r, err := check.Run(t.Context(), tree, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoodImages(t *testing.T) {
	fixtures := imagetest.Fixtures(t)
	for _, tt := range [...]struct {
		boot, blobs                                                  string
		unpacked                                                     bool
		entries, inodes, dirs, files, links, bytes, chunks, verified uint64
	}{
		{"rafs/testdata/rafs-v6-2.2.boot", "rafs/testdata", false, 3, 3, 1, 2, 0, 30331, 2, 2},
		{"erofs/testdata/plain.erofs", "", false, 158, 157, 3, 153, 1, 8903, 0, 0},
		{"erofs/testdata/chunks.erofs", "", false, 158, 157, 3, 153, 1, 8903, 0, 0},
		{"v6-bootstrap-chunk-pos-438272.boot", "", true, 3517, 3517, 678, 2627, 212, 81619065, 2515, 0},
		{"rafs/testdata/v5-blake3-none-ext.boot", ".", true, 54, 52, 24, 23, 7, 7704958, 23, 23},
		{"rafs/testdata/v5-blake3-lz4-noext.boot", ".", true, 54, 52, 24, 23, 7, 7704958, 23, 23},
	} {
		t.Run(tt.boot, func(t *testing.T) {
			base := ".."
			if tt.unpacked {
				base = fixtures
			}
			boot, blobs := filepath.Join("..", tt.boot), tt.blobs
			if blobs != "" {
				blobs = filepath.Join(base, blobs)
			} else {
				boot = filepath.Join(base, tt.boot)
			}
			r := run(t, boot, blobs)
			for _, p := range r.Problems {
				t.Error(p)
			}
			for _, v := range [...]struct {
				name      string
				got, want uint64
			}{
				{"entries", r.Entries, tt.entries}, {"inodes", r.Inodes, tt.inodes}, {"directories", r.Directories, tt.dirs},
				{"files", r.Files, tt.files}, {"symlinks", r.Symlinks, tt.links}, {"file bytes", r.FileBytes, tt.bytes},
				{"chunks", r.Chunks, tt.chunks}, {"verified", r.Verified, tt.verified},
			} {
				if v.got != v.want {
					t.Errorf("%s: got %d, want %d", v.name, v.got, v.want)
				}
			}
		})
	}
}

func TestDamageIsFound(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range [...]struct {
		name, file string
		change     func(b []byte)
		want       string
	}{
		{"link count", "erofs/testdata/plain.erofs", func(b []byte) {
			// dir/small is the only inode with two names.
			for off := 1024 + 128; off+64 <= len(b); off += 32 {
				if le.Uint16(b[off+4:]) == 0o100644 && b[off]&1 == 0 && le.Uint16(b[off+6:]) == 2 {
					le.PutUint16(b[off+6:], 1)
				}
			}
		}, "link count is 1, but the inode has 2 names"},
		{"order of entries", "rafs/testdata/rafs-v6-2.2.boot", swapNames, "stands behind"},
		{"chunk record", "rafs/testdata/rafs-v6-2.2.boot", func(b []byte) { le.PutUint32(b[16384+44:], 1<<30) }, "uncompressed size"},
		{"prefetch table", "rafs/testdata/rafs-v6-2.2.boot", func(b []byte) {
			le.PutUint64(b[1152+40:], 4096+256)
			le.PutUint32(b[1152+48:], 4)
			le.PutUint32(b[4096+256:], 77)
		}, "prefetch table: inode 77"},
		{"inode digest", "rafs/testdata/v5-blake3-none-ext.boot", func(b []byte) {
			table := le.Uint64(b[32:])
			b[le.Uint32(b[table+4*7:])<<3] ^= 1 // of inode 8
		}, "digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("..", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			b[1024+8] &^= 1 // the checksum would refuse what is to be found
			tt.change(b)
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r := run(t, file, "")
			found := false
			for _, p := range r.Problems {
				found = found || strings.Contains(p.String(), tt.want)
			}
			if !found {
				t.Errorf("got problems %q, want one with %q", r.Problems, tt.want)
			}
		})
	}
}

// swapNames makes "lib.rs" stand behind "sync_io.rs".
func swapNames(b []byte) {
	s := string(b)
	i := strings.Index(s, "lib.rs")
	b[i] = 'z'
}

func TestChangedBlobIsFound(t *testing.T) {
	const id = "be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef"
	b, err := os.ReadFile("../rafs/testdata/" + id)
	if err != nil {
		t.Fatal(err)
	}
	b[6000] ^= 1
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, id), b, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "../rafs/testdata/rafs-v6-2.2.boot", dir)
	if len(r.Problems) != 1 || r.Problems[0].Path != "/sync_io.rs" || r.Verified != 1 {
		t.Errorf("got %d verified, problems %v; want one with /sync_io.rs", r.Verified, r.Problems)
	}
}

func TestMissingBlobIsNoProblem(t *testing.T) {
	r := run(t, "../rafs/testdata/rafs-v6-2.2.boot", t.TempDir())
	if !r.OK() || len(r.Missing) != 1 || r.Chunks != 2 || r.Verified != 0 {
		t.Errorf("got %+v, want one missing blob", r)
	}
}
