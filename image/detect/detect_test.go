package detect_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

func open(t *testing.T, name string) image.Tree {
	t.Helper()
	tree, err := detect.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func TestFixturesHaveTheExpectedTree(t *testing.T) {
	const dir = "../rafs/testdata"
	for _, name := range [...]string{"rafs-v6-2.2", "v5-blake3-none-ext", "v5-blake3-lz4-noext"} {
		t.Run(name, func(t *testing.T) {
			imagetest.Expect(t, open(t, filepath.Join(dir, name+".boot")), imagetest.Listing(t, filepath.Join(dir, name+".tsv")), nil)
		})
	}
}

func TestLargeFixturesHaveTheExpectedTree(t *testing.T) {
	dir := imagetest.Fixtures(t)
	for _, name := range [...]string{"v6-bootstrap-chunk-pos-438272", "v6-zstd-64k"} {
		t.Run(name, func(t *testing.T) {
			imagetest.Expect(t, open(t, filepath.Join(dir, name+".boot")), imagetest.Listing(t, filepath.Join(dir, name+".tsv")), nil)
		})
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	for _, tt := range [...]struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"short", []byte("RAFS")},
		{"zeros", make([]byte, 8192)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			tree, err := detect.Open(file, nil)
			var format *image.FormatError
			if !errors.As(err, &format) || tree != nil {
				t.Errorf("got %v, %v; want a FormatError", tree, err)
			}
		})
	}
}

// inlined returns a blob that ends in the bootstrap: compressed with a table
// of contents, or as it is.
func inlined(t *testing.T, boot []byte, toc bool) []byte {
	t.Helper()
	blob := make([]byte, 5000)
	section := func(name string, data []byte) {
		blob = append(blob, data...)
		h := make([]byte, 512)
		copy(h, name)
		copy(h[124:], fmt.Sprintf("%011o", len(data)))
		copy(h[257:], "ustar  ")
		sum := 8 * int(' ')
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		blob = append(blob, h...)
	}
	if !toc {
		section(rafs.SectionBootstrap, boot)
		return blob
	}
	stored, err := codec.Compress(nil, boot, storage.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	e := rafs.TOCEntry{
		Flags: rafs.TOCZstd, Name: rafs.SectionBootstrap, Digest: sha256.Sum256(boot), CompressedOffset: uint64(len(blob)),
		CompressedSize: uint64(len(stored)), UncompressedSize: uint64(len(boot)),
	}
	section(rafs.SectionBootstrap, stored)
	section(rafs.SectionTOC, e.Append(nil))
	return blob
}

func TestBootstrapInsideABlobOrALayer(t *testing.T) {
	const id = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	boot, err := os.ReadFile("../rafs/testdata/rafs-v6-2.2.boot")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := rafs.ParseBlobInfo(boot[4096:])
	info.Features |= rafs.BlobInlinedMeta
	copy(info.ID[:], strings.Repeat("x", 64))
	copy(boot[4096:], info.Append(nil))
	layer := new(bytes.Buffer)
	z := gzip.NewWriter(layer)
	w := tar.NewWriter(z)
	err = errors.Join(
		w.WriteHeader(&tar.Header{Name: "image/", Typeflag: tar.TypeDir, Mode: 0o755}),
		w.WriteHeader(&tar.Header{Name: "image/image.boot", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(boot))}))
	_, err2 := w.Write(boot)
	if err = errors.Join(err, err2, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"toc": inlined(t, boot, true), "raw": inlined(t, boot, false), "layer": layer.Bytes(), "alone": boot,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), id+".image.boot")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			tree := open(t, file)
			if got := tree.Blobs()[0].ID; got != id {
				t.Errorf("blob: got %s, want %s", got, id)
			}
			if _, err := tree.Lookup(tree.Root(), "lib.rs"); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("changed", func(t *testing.T) {
		data := inlined(t, boot, true)
		data[5100] ^= 1
		file := filepath.Join(t.TempDir(), "blob")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if tree, err := detect.Open(file, nil); err == nil {
			tree.Close()
			t.Error("open of a changed blob: got no error")
		}
	})
}

func FuzzBlobTail(f *testing.F) {
	blob, err := os.ReadFile("../rafs/testdata/be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob[len(blob)-2048:])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := rafs.Bootstrap(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			m.Close()
		}
	})
}
