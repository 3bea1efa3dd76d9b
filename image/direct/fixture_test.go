package direct_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// open opens an image, its blobs and a reader of them.
func open(t *testing.T, boot, blobs string) (image.Tree, *direct.Reader) {
	t.Helper()
	tree, err := detect.Open(boot, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	dir, err := direct.OpenDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	if l, ok := tree.(image.MetaLoader); ok {
		if err := l.LoadMeta(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	return tree, direct.NewReader(dir)
}

// blobOf reports whether the file has data in one of the blobs.
func blobOf(t *testing.T, tree image.Tree, e *imagetest.Entry, blobs map[string]bool) bool {
	t.Helper()
	ext, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(ext, func(x storage.Extent) bool { return !x.Hole() && blobs[x.Chunk.Blob.ID] })
}

func TestContentsOfFixtures(t *testing.T) {
	const testdata = "../rafs/testdata"
	dir := imagetest.Fixtures(t)
	for _, tt := range [...]struct {
		image, dir, blobs string
		whole             bool // all blobs are there
	}{
		{"rafs-v6-2.2", testdata, testdata, true},
		{"v6-zstd-64k", dir, dir, false},
		{"v5-blake3-none-ext", testdata, dir, true},
		{"v5-blake3-lz4-noext", testdata, dir, true},
	} {
		t.Run(tt.image, func(t *testing.T) {
			tree, r := open(t, filepath.Join(tt.dir, tt.image+".boot"), tt.blobs)
			want := imagetest.Listing(t, filepath.Join(tt.dir, tt.image+".tsv"))
			absent := map[string]bool{}
			for _, b := range tree.Blobs() {
				if _, err := os.Stat(filepath.Join(tt.blobs, b.ID)); err != nil {
					absent[b.ID] = true
				}
			}
			if tt.whole != (len(absent) == 0) {
				t.Fatalf("blobs that are not there: %v", absent)
			}
			read := 0
			defer func() {
				if read == 0 {
					t.Error("no file was read")
				}
			}()
			imagetest.Expect(t, tree, want, func(e *imagetest.Entry) (string, error) {
				h := sha256.New()
				if blobOf(t, tree, e, absent) {
					return strings.Split(want[e.Path], "\t")[11], nil
				}
				read++
				err := r.Copy(t.Context(), h, tree, e.NID, int64(e.Size))
				return hex.EncodeToString(h.Sum(nil)), err
			})
		})
	}
}

func TestZranChunksOfFixture(t *testing.T) {
	const id = "f98e8115bdc87a859c13a0b392ff42bf4e54e654bd75e96508b9412e65c1f0da"
	base := imagetest.Fixtures(t)
	m, err := rafs.OpenMeta(filepath.Join(base, id+".blob.meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir, err := direct.OpenDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	truth, err := os.ReadFile(filepath.Join(base, "zran.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(truth)), "\n")[1:]
	blob := &storage.Blob{ID: id, ChunkSize: 1 << 20, ChunkCount: m.Header.Entries, UncompressedSize: 1 << 30, DataSize: 2535219, Compressor: storage.Gzip}
	if int(m.Header.Entries) != len(lines) {
		t.Fatalf("chunks: got %d, want %d", m.Header.Entries, len(lines))
	}
	const kept = 2320484 // the archive is there from here on
	read := 0
	r := direct.NewReader(dir)
	for i, line := range lines {
		f := strings.Split(line, "\t")
		c, err := m.Chunk(blob, uint32(i))
		if err != nil {
			t.Fatal(err)
		}
		if c.Group.Offset < kept {
			continue
		}
		read++
		b, err := r.Chunk(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:]); got != f[3] || strconv.Itoa(len(b)) != f[2] {
			t.Errorf("chunk %d: got %d bytes, sha256 %s; want %s, %s", i, len(b), got, f[2], f[3])
		}
	}
	if read != 1 {
		t.Errorf("chunks read: got %d, want 1", read)
	}
}

func TestBootstrapWithoutChunkTableTakesItFromTheBlob(t *testing.T) {
	const boot = "../rafs/testdata/rafs-v6-2.2.boot"
	b, err := os.ReadFile(boot)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := rafs.ParseExtSuper(b[rafs.ExtSuperOffset:])
	x.ChunkTableSize = 0
	copy(b[rafs.ExtSuperOffset:], x.Append(nil))
	file := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	with, _ := open(t, boot, "../rafs/testdata")
	without, r := open(t, file, "../rafs/testdata")
	nid, err := without.Lookup(without.Root(), "sync_io.rs")
	if err != nil {
		t.Fatal(err)
	}
	want, err1 := with.Extents(nil, nid, 0, 1<<20)
	got, err2 := without.Extents(nil, nid, 0, 1<<20)
	if err1 != nil || err2 != nil || len(got) != 1 || len(want) != 1 {
		t.Fatalf("extents: got %v, %v; want %v, %v", got, err2, want, err1)
	}
	got[0].Chunk.Blob, want[0].Chunk.Blob = nil, nil
	if got[0] != want[0] {
		t.Errorf("got %+v\nwant %+v", got[0], want[0])
	}
	h := sha256.New()
	if err := r.Copy(t.Context(), h, without, nid, 13400); err != nil {
		t.Error(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.HasPrefix(got, "e629ab26") {
		t.Errorf("content: got sha256 %s", got)
	}
}

func TestWrongBytesAreNotGivenOut(t *testing.T) {
	const id = "be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef"
	b, err := os.ReadFile("../rafs/testdata/" + id)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, id), b, 0o600); err != nil {
		t.Fatal(err)
	}
	tree, r := open(t, "../rafs/testdata/rafs-v6-2.2.boot", dir)
	nid, err := tree.Lookup(tree.Root(), "lib.rs")
	if err != nil {
		t.Fatal(err)
	}
	err = r.Pieces(t.Context(), tree, nid, 16931, func([]byte, int64) error {
		t.Error("gave out bytes")
		return nil
	})
	if err == nil {
		t.Error("read of a changed blob: got no error")
	}
	if errors.Is(err, codec.ErrMismatch) {
		t.Log("the digest told")
	}
}

func TestDirKnowsNoOtherBlobs(t *testing.T) {
	dir, err := direct.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.Size(context.Background(), "absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("size: got %v, want fs.ErrNotExist", err)
	}
	if err := dir.ReadAt(context.Background(), "../../etc/passwd", make([]byte, 1), 0); err == nil {
		t.Error("read outside the directory: got no error")
	}
}
