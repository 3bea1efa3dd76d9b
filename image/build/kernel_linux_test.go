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
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(t.Context(), backend(t, string(blobs))); err != nil {
			t.Fatal(err)
		}
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
		"batches": {
			BatchSize: 256 << 10, ChunkSize: 128 << 10, Compressor: storage.Zstd, Prefetch: PrefetchFS, PrefetchPaths: []string{"/many", "/big"},
		},
		"inlined": {TOC: true, InlineMeta: true, Digester: storage.SHA256, ChunkSize: 16 << 20, Compressor: storage.LZ4Block},
	} {
		t.Run(name, func(t *testing.T) {
			tree, _, dir := create(t, Dir(src), opt)
			point := imagetest.MountEROFS(t, filepath.Join(dir, "image.boot"), flatBlobs(t, tree, blobFiles(dir))...)
			sameLines(t, "kernel", osLines(t, point), want)
		})
	}
}

// So it does of images with several blobs, that is devices: of layers, with a
// dictionary, merged, rewritten, and of several tars.
func TestIntegrationKernelShowsDevices(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	src := makeSource(t)
	opt := Options{ChunkSize: 64 << 10, Compressor: storage.Zstd}
	lower, _, dir := create(t, Dir(src), opt)
	upper := bytesLayer("upper", archive(t, "d .", "d a", "d many", "d x", "f a/.wh.text-link", "f new "+string(text(99, 200_000)), "f many/.wh..wh..opq", "l x/link one"))
	// kernel mounts the bootstrap and returns what the reader and the driver agree on.
	kernel := func(t *testing.T, bootstrap string) map[string]string {
		t.Helper()
		tree := openTree(t, bootstrap)
		point := imagetest.MountEROFS(t, bootstrap, flatBlobs(t, tree, blobFiles(dir))...)
		got := osLines(t, point)
		sameLines(t, "kernel", got, treeLines(t, tree, blobFiles(dir)))
		return got
	}
	out := func(name string) Output { return Output{Bootstrap: filepath.Join(dir, name), BlobDir: dir} }
	t.Run("parent", func(t *testing.T) {
		opt := opt
		opt.Parent = lower
		if _, err := Create(t.Context(), Tars(upper), out("parent.boot"), opt); err != nil {
			t.Fatal(err)
		}
		parent := kernel(t, filepath.Join(dir, "parent.boot"))
		opt = Options{ChunkSize: 64 << 10, Whiteouts: WhiteoutsNone}
		if _, err := Create(t.Context(), Tars(upper), out("upper.boot"), opt); err != nil {
			t.Fatal(err)
		}
		layers := []MergeLayer{{Tree: lower}, {Tree: openTree(t, filepath.Join(dir, "upper.boot"))}}
		if _, err := Merge(t.Context(), layers, out("merged.boot"), Options{}); err != nil {
			t.Fatal(err)
		}
		sameLines(t, "merged", kernel(t, filepath.Join(dir, "merged.boot")), parent)
	})
	t.Run("dictionary", func(t *testing.T) {
		opt := opt
		opt.Dicts = []image.Tree{lower}
		if _, err := Create(t.Context(), Tars(bytesLayer("tar", archive(t, "f a "+string(text(3, 3<<20)), "f b "+string(text(98, 100_000))))), out("dict.boot"), opt); err != nil {
			t.Fatal(err)
		}
		if n := len(openTree(t, filepath.Join(dir, "dict.boot")).Blobs()); n != 2 {
			t.Errorf("blobs: got %d, want that of the dictionary and a new one", n)
		}
		kernel(t, filepath.Join(dir, "dict.boot"))
	})
	t.Run("optimized", func(t *testing.T) {
		if _, err := Optimize(t.Context(), lower, backend(t, dir), []Hot{{Path: "/big"}, {Path: "/many"}}, out("hot.boot"), Options{}); err != nil {
			t.Fatal(err)
		}
		sameLines(t, "optimized", kernel(t, filepath.Join(dir, "hot.boot")), osLines(t, src))
	})
	t.Run("tarfs", func(t *testing.T) {
		var layers []MergeLayer
		for i, l := range []Layer{bytesLayer("tar", archive(t, tarfsLines()...)), upper} {
			boot := fmt.Sprintf("tarfs%d.boot", i)
			if _, err := Create(t.Context(), Tars(l), out(boot), Options{Tarfs: true, Whiteouts: WhiteoutsNone}); err != nil {
				t.Fatal(err)
			}
			layers = append(layers, MergeLayer{Tree: openTree(t, filepath.Join(dir, boot))})
		}
		if _, err := Merge(t.Context(), layers, out("tarfs.boot"), Options{}); err != nil {
			t.Fatal(err)
		}
		kernel(t, filepath.Join(dir, "tarfs.boot"))
	})
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
