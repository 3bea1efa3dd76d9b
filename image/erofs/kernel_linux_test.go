package erofs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// source makes the common source tree, if the test can go on with it.
func source(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	testenv.Program(t, "mkfs.erofs", "erofs-utils")
	return imagetest.Source(t)
}

// mkfs makes an image of a source tree.
func mkfs(t *testing.T, source string, args ...string) string {
	t.Helper()
	program := testenv.Program(t, "mkfs.erofs", "erofs-utils")
	file := filepath.Join(t.TempDir(), "image.erofs")
	args = append(args, file, source)
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return file
}

func sumBytes(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func TestIntegrationKernelSeesTheSame(t *testing.T) {
	tree := source(t)
	for _, tt := range [...]struct {
		name string
		args []string
	}{
		{"plain", []string{"-T0"}},
		{"own-times", nil},
		{"compact", []string{"-Eforce-inode-compact", "--force-uid=1000", "--force-gid=1000"}},
		{"no-inline", []string{"-Enoinline_data"}},
		{"chunks", []string{"--chunksize=65536"}},
		{"chunk-indexes", []string{"--chunksize=4096", "-Eforce-chunk-indexes"}},
		{"no-inline-xattrs", []string{"-x1"}},
		{"lz4", []string{"-zlz4"}},
		{"lz4hc-big-clusters", []string{"-zlz4hc", "-C65536"}},
		{"lz4-full-indexes", []string{"-zlz4", "-Elegacy-compress"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := mkfs(t, tree, tt.args...)
			im := open(t, file)
			imagetest.CompareHost(t, im, imagetest.MountEROFS(t, file), func(e *imagetest.Entry) (string, error) {
				b, err := imagetest.Content(im, e)
				return sumBytes(b), err
			})
		})
	}
}

func TestIntegrationKernelSeesTheSameOnADevice(t *testing.T) {
	blob := filepath.Join(t.TempDir(), "blob")
	file := mkfs(t, source(t), "--chunksize=65536", "--blobdev="+blob)
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	im := open(t, file, erofs.BlobStore{ID: "blob", Size: int64(len(data))})
	if b := im.Blobs(); len(b) != 1 || b[0].ID != "blob" {
		t.Fatalf("blobs: got %v, want one", b)
	}
	imagetest.CompareHost(t, im, imagetest.MountEROFS(t, file, blob), func(e *imagetest.Entry) (string, error) {
		ext, err := im.Extents(nil, e.NID, 0, int64(e.Size))
		imagetest.CheckExtents(t, e, ext)
		return sumBytes(readExtents(data, ext)), err
	})
}

// readExtents returns the bytes of extents of one blob.
func readExtents(blob []byte, ext []storage.Extent) (b []byte) {
	for i := range ext {
		e := &ext[i]
		if e.Hole() {
			b = append(b, make([]byte, e.Length)...)
			continue
		}
		b = append(b, blob[e.Chunk.Offset+int64(e.ChunkOffset):][:e.Length]...)
	}
	return b
}
