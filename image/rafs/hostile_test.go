package rafs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/internal/mmap"
)

var seeds = [...]string{"rafs-v6-2.2.boot", "v5-blake3-none-ext.boot", "v5-blake3-lz4-noext.boot", "v5-content-chunks.boot"}

// openBytes opens b as a bootstrap.
func openBytes(t testing.TB, b []byte) (image.Tree, error) {
	t.Helper()
	return rafs.New(mmap.Of(b), nil)
}

// exercise asks everything of b and fails the test unless all errors are
// FormatErrors.
func exercise(t testing.TB, b []byte) {
	t.Helper()
	tree, err := openBytes(t, b)
	if err != nil {
		var format *image.FormatError
		if !errors.As(err, &format) {
			t.Errorf("open: got %T %v, want a FormatError", err, err)
		}
		return
	}
	defer tree.Close()
	if err := imagetest.Exercise(tree, 300); err != nil {
		t.Error(err)
	}
}

func TestCutImagesGiveErrors(t *testing.T) {
	for _, name := range seeds {
		b := imagetest.File(t, "testdata", name)
		for n := 0; n < len(b); n += 512 {
			exercise(t, b[:n])
		}
	}
}

func TestFlippedBitsGiveErrors(t *testing.T) {
	for _, name := range seeds {
		b := imagetest.File(t, "testdata", name)
		for i := range b {
			if b[i] == 0 && i%7 != 0 || testing.Short() && i%25 != 0 {
				continue // most zeros are padding; a sample will do in short
			}
			old := b[i]
			b[i] ^= 0xff
			exercise(t, b)
			b[i] = old ^ 1
			exercise(t, b)
			b[i] = old
		}
	}
}

func FuzzOpen(f *testing.F) {
	images := make([][]byte, len(seeds))
	for i, name := range seeds {
		images[i] = imagetest.File(f, "testdata", name)
		f.Add(uint8(i), []byte{0x80, 0x04, 0, 0x14, 0xff, 0xff, 0xff, 0})
		f.Add(uint8(i), []byte{0x0c, 0x04, 0, 9, 0x50, 0x04, 0, 0xff})
	}
	f.Fuzz(func(t *testing.T, i uint8, patch []byte) {
		exercise(t, imagetest.Patch(images[int(i)%len(images)], patch))
	})
}

func TestFileCutShortWhileOpen(t *testing.T) {
	for _, name := range seeds {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, imagetest.File(t, "testdata", name), 0o600); err != nil {
				t.Fatal(err)
			}
			tree, err := rafs.Open(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
			var in image.Inode
			err = tree.Stat(tree.Root(), &in)
			var format *image.FormatError
			if !errors.As(err, &format) {
				t.Errorf("stat: got %v, want a FormatError", err)
			}
			if err := imagetest.Exercise(tree, 10); err != nil {
				t.Error(err)
			}
		})
	}
}
