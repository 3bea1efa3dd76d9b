package imagetest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Flatten writes the uncompressed blobs of an image, whose chunks chunk gives,
// as the kernel takes them for devices, and returns their files in the order
// of the image's table.
func Flatten(t testing.TB, tree image.Tree, chunk func(context.Context, *storage.Chunk) ([]byte, error)) (names []string) {
	t.Helper()
	dir := t.TempDir()
	for _, b := range tree.Blobs() {
		f, err := os.Create(filepath.Join(dir, b.ID))
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.ChunkCount {
			c, ok := b.Neighbour(i)
			if !ok {
				t.Fatalf("blob %s has no chunk %d", b.ID, i)
			}
			p, err := chunk(t.Context(), &c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(p, c.UncompressedOffset); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate((b.UncompressedSize + 4095) &^ 4095); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		names = append(names, f.Name())
	}
	return names
}
