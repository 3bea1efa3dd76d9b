package direct_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

func TestIntegrationKernelSeesTheSameInFixtures(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	for _, tt := range [...]struct {
		boot string
		dir  string
	}{
		{"rafs-v6-2.2.boot", "../rafs/testdata"},
		{"v6-zstd-64k.boot", imagetest.Fixtures(t)},
	} {
		t.Run(tt.boot, func(t *testing.T) {
			boot := filepath.Join(tt.dir, tt.boot)
			tree, r := open(t, boot, tt.dir)
			absent := map[string]bool{} // blobs that are not kept are zeros to the kernel
			point := imagetest.MountEROFS(t, copyFile(t, boot), imagetest.Flatten(t, tree, func(ctx context.Context, c *storage.Chunk) ([]byte, error) {
				if _, err := os.Stat(filepath.Join(tt.dir, c.Blob.ID)); err != nil {
					absent[c.Blob.ID] = true
					return make([]byte, c.UncompressedSize), nil
				}
				return r.Chunk(ctx, c)
			})...)
			imagetest.CompareHost(t, tree, point, func(e *imagetest.Entry) (string, error) {
				h := sha256.New()
				if blobOf(t, tree, e, absent) {
					_, err := h.Write(make([]byte, e.Size))
					return hex.EncodeToString(h.Sum(nil)), err
				}
				err := r.Copy(t.Context(), h, tree, e.NID, int64(e.Size))
				return hex.EncodeToString(h.Sum(nil)), err
			})
		})
	}
}

// copyFile copies a file to where the tests' temporary files are, which is a
// file system that EROFS can be mounted from.
func copyFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

var _ storage.Reader = (*direct.Reader)(nil)
