package estargz_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/storage/codec"
)

// testFile returns a file of testdata, unzipped if zipped is set.
func testFile(t testing.TB, name string, zipped bool) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil && zipped {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(z)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sociLayers are the same layer in the three forms that have no table of
// their own, and the places of their blobs.
func sociLayers(t testing.TB) map[string]func() (estargz.Layer, memory) {
	stored, plain := testFile(t, "soci-layer.tar.gz", false), testFile(t, "soci-layer.tar.gz", true)
	return map[string]func() (estargz.Layer, memory){
		"gzip": func() (estargz.Layer, memory) {
			l := estargz.Layer{ID: hexOf(stored), Size: int64(len(stored)), ZTOC: testFile(t, "soci-gzip.ztoc.gz", true)}
			return l, memory{estargz.SOCIBlob(l.ID, l.ZTOC): stored}
		},
		"uncompressed": func() (estargz.Layer, memory) {
			l := estargz.Layer{ID: hexOf(plain), Size: int64(len(plain)), ZTOC: testFile(t, "soci-plain.ztoc.gz", true)}
			return l, memory{estargz.SOCIBlob(l.ID, l.ZTOC): plain}
		},
		"whole": func() (estargz.Layer, memory) {
			l := estargz.Layer{ID: hexOf(plain), Size: int64(len(plain)), Tar: bytes.NewReader(plain)}
			return l, memory{l.ID: plain}
		},
	}
}

func contents(t *testing.T, tree image.Tree, m memory, path string) (string, error) {
	t.Helper()
	nid, err := image.Find(tree, path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var in image.Inode
	if err := tree.Stat(nid, &in); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, in.Size)
	ext, err := tree.Extents(nil, nid, 0, int64(len(b)))
	if err == nil {
		err = direct.NewReader(m).ReadExtents(t.Context(), b, ext)
	}
	return string(b), err
}

func TestSOCILayerIsReadLikeItsArchive(t *testing.T) {
	plain := testFile(t, "soci-layer.tar.gz", true)
	for name, open := range sociLayers(t) {
		t.Run(name, func(t *testing.T) {
			l, m := open()
			tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l})
			if err != nil {
				t.Fatal(err)
			}
			if rep, err := check.Run(t.Context(), tree, check.Options{Backend: m}); err != nil || !rep.OK() {
				t.Errorf("check: %+v, %v", rep, err)
			}
			for r := tar.NewReader(bytes.NewReader(plain)); ; {
				h, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				nid, err := image.Find(tree, h.Name)
				if err != nil {
					t.Fatalf("%s: %v", h.Name, err)
				}
				var in image.Inode
				if err := tree.Stat(nid, &in); err != nil {
					t.Fatal(err)
				}
				if in.Mode&0o7777 != uint32(h.Mode) || in.UID != uint32(h.Uid) || in.GID != uint32(h.Gid) && h.Typeflag != tar.TypeLink || in.MTime != h.ModTime.Unix() {
					t.Errorf("%s: got %+v of %+v", h.Name, in, h)
				}
				if v, err := tree.Xattr(nid, "user.a"); string(v) != h.PAXRecords["SCHILY.xattr.user.a"] {
					t.Errorf("%s: attribute %q, %v", h.Name, v, err)
				}
				if h.Typeflag != tar.TypeReg {
					continue
				}
				want, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := contents(t, tree, m, h.Name); err != nil || got != string(want) {
					t.Errorf("%s: %d bytes, %v; want %d", h.Name, len(got), err, len(want))
				}
			}
		})
	}
}

// A span is decompressed only when its stored bytes have the digest that the
// zTOC has.
func TestSOCISpanIsVerified(t *testing.T) {
	for _, name := range []string{"gzip", "uncompressed"} {
		l, m := sociLayers(t)[name]()
		tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range m {
			b[len(b)/3] ^= 4
		}
		if _, err := contents(t, tree, m, "usr/big"); !errors.Is(err, codec.ErrMismatch) {
			t.Errorf("%s: a changed span: %v", name, err)
		}
	}
}

func TestSOCIRefusesWhatDoesNotFit(t *testing.T) {
	l, m := sociLayers(t)["gzip"]()
	l.Size++
	if _, err := estargz.Open(t.Context(), m, []estargz.Layer{l}); err == nil {
		t.Error("the zTOC of another layer was taken")
	}
	l.Size--
	for n := 0; n < len(l.ZTOC); n += 1 + n/50 {
		cut := l
		cut.ZTOC = l.ZTOC[:n:n]
		if _, err := estargz.Open(t.Context(), m, []estargz.Layer{cut}); err == nil {
			t.Errorf("a zTOC of %d of %d bytes was taken", n, len(l.ZTOC))
		}
	}
}

func FuzzZTOC(f *testing.F) {
	stored := testFile(f, "soci-layer.tar.gz", false)
	for _, name := range []string{"soci-gzip.ztoc.gz", "soci-plain.ztoc.gz"} {
		f.Add(testFile(f, name, true))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, size := range []int{len(stored), 163840} {
			l := estargz.Layer{ID: hexOf(stored), Size: int64(size), ZTOC: b}
			tree, err := estargz.Open(t.Context(), memory{}, []estargz.Layer{l})
			if err != nil {
				continue
			}
			for nid := uint64(1); nid <= tree.Info().Inodes; nid++ {
				var in image.Inode
				if err := tree.Stat(nid, &in); err != nil {
					t.Fatal(err)
				}
				if in.Mode&image.TypeMask != image.TypeRegular {
					continue
				}
				at := int64(0)
				ext, err := tree.Extents(nil, nid, 0, int64(in.Size))
				for _, e := range ext {
					if e.FileOffset != at || e.Length <= 0 || int64(e.ChunkOffset)+e.Length > int64(e.Chunk.UncompressedSize) {
						t.Fatalf("extent %+v at %d", e, at)
					}
					at += e.Length
				}
				if err != nil || at != int64(in.Size) {
					t.Fatalf("extents for %d of %d bytes, %v", at, in.Size, err)
				}
			}
		}
	})
}
