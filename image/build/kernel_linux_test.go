package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// flatBlobs writes the uncompressed form of each blob of the image, and
// returns the paths in table order: what the kernel wants as its devices.
func flatBlobs(t testing.TB, tree image.Tree, blobs blobFiles) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	files := make([]*os.File, len(tree.Blobs()))
	for i, b := range tree.Blobs() {
		f, err := os.Create(filepath.Join(dir, b.ID))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(b.UncompressedSize); err != nil {
			t.Fatal(err)
		}
		files[i] = f
		paths = append(paths, f.Name())
	}
	err := imagetest.Walk(tree, 100_000, func(e *imagetest.Entry) error {
		if e.Mode&0o170000 != 0o100000 {
			return nil
		}
		ext, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
		if err != nil {
			return err
		}
		for i := range ext {
			if ext[i].Hole() {
				continue
			}
			c := &ext[i].Chunk
			b, err := blobs.chunk(c)
			if err != nil {
				return err
			}
			if _, err := files[c.Blob.Index].WriteAt(b, c.UncompressedOffset); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// mountEROFS has the kernel mount an EROFS file with those devices.
func mountEROFS(t testing.TB, path string, devices []string) string {
	t.Helper()
	point := t.TempDir()
	data := "device=" + strings.Join(devices, ",device=")
	if len(devices) == 0 {
		data = ""
	}
	if err := unix.Mount(path, point, "erofs", unix.MS_RDONLY, data); err != nil {
		t.Fatalf("mount %s (%s): %v", path, data, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return point
}

// The kernel's EROFS driver shows of an image what the source has.
func TestIntegrationKernelShowsImage(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	src := makeSource(t)
	want := osLines(t, src)
	for name, opt := range map[string]Options{
		"zstd":  {Compressor: storage.Zstd},
		"small": {ChunkSize: 4096},
		"holes": {ChunkSize: 64 << 10, NullHoles: true, Compressor: storage.LZ4Block},
	} {
		t.Run(name, func(t *testing.T) {
			tree, _, dir := create(t, Dir(src), opt)
			point := mountEROFS(t, filepath.Join(dir, "image.boot"), flatBlobs(t, tree, blobFiles(dir)))
			sameLines(t, "kernel", osLines(t, point), want)
		})
	}
}
