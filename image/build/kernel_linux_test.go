package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/direct"
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
	reader := direct.NewReader(backend(t, string(blobs)))
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
			b, err := reader.Chunk(t.Context(), c)
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
			point := imagetest.MountEROFS(t, filepath.Join(dir, "image.boot"), flatBlobs(t, tree, blobFiles(dir))...)
			sameLines(t, "kernel", osLines(t, point), want)
		})
	}
}

// An exported image is one EROFS file: the kernel mounts it by itself.
func TestIntegrationKernelShowsExport(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	src := makeSource(t)
	want := osLines(t, src)
	for _, version := range []int{5, 6} {
		tree, _, dir := create(t, Dir(src), Options{Version: version, Compressor: storage.Zstd, ChunkSize: 128 << 10})
		path := filepath.Join(dir, "flat.erofs")
		res, err := Export(t.Context(), tree, backend(t, dir), path, ExportOptions{Verity: true})
		if err != nil {
			t.Fatal(err)
		}
		sameLines(t, "kernel", osLines(t, imagetest.MountEROFS(t, path)), want)
		verify(t, path, res.Verity)
	}
}

// verify has the dm-verity hash tree of a file checked by veritysetup.
func verify(t *testing.T, path string, v *Verity) {
	t.Helper()
	veritysetup, err := exec.LookPath("veritysetup")
	if err != nil {
		return // the size of the tree is checked elsewhere
	}
	args := []string{
		"verify", path, path, fmt.Sprintf("%x", v.RootHash), "--no-superblock", "--format=1", "-s", "-", "--hash=sha256",
		"--data-block-size=4096", "--hash-block-size=4096", fmt.Sprintf("--data-blocks=%d", v.DataBlocks), fmt.Sprintf("--hash-offset=%d", v.HashOffset),
	}
	if out, err := exec.Command(veritysetup, args...).CombinedOutput(); err != nil {
		t.Errorf("veritysetup verify: %v: %s", err, out)
	}
}
