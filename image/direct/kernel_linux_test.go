package direct_test

import (
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
		boot  string
		large bool
	}{
		{"rafs-v6-2.2.boot", false},
		{"gen/v6-zstd-64k/image.boot", true},
	} {
		t.Run(tt.boot, func(t *testing.T) {
			base := "../rafs/testdata"
			if tt.large {
				base = testenv.Fixtures(t)
			}
			boot := filepath.Join(base, tt.boot)
			tree, r := open(t, boot, filepath.Dir(boot))
			point := imagetest.MountEROFS(t, copyFile(t, boot), imagetest.Flatten(t, tree, r.Chunk)...)
			imagetest.CompareHost(t, tree, point, func(e *imagetest.Entry) (string, error) {
				h := sha256.New()
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
