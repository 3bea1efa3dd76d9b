package build

import (
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// An image made of an image has the same files, whatever the two formats.
func TestCreateFromImage(t *testing.T) {
	src := makeSource(t)
	want := osLines(t, src)
	for _, from := range []Options{{Compressor: storage.Zstd}, {Version: 5, ChunkSize: 8192}, {BatchSize: 64 << 10, Compressor: storage.LZ4Block}} {
		tree, _, dir := create(t, Dir(src), from)
		sameLines(t, "first image", treeLines(t, tree, blobFiles(dir)), want)
		for _, to := range []Options{{Version: 5, Compressor: storage.LZ4Block}, {ChunkSize: 16 << 10, Digester: storage.SHA256}} {
			again, _, dir2 := create(t, Image(tree, backend(t, dir)), to)
			sameLines(t, "second image", treeLines(t, again, blobFiles(dir2)), want)
		}
	}
	// Plain EROFS, too.
	tree, _, dir := create(t, Dir(src), Options{})
	flat := filepath.Join(dir, "flat")
	if _, err := Export(t.Context(), tree, backend(t, dir), flat, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	again, _, dir2 := create(t, Image(openTree(t, flat), backend(t, dir)), Options{Compressor: storage.Zstd})
	sameLines(t, "image of EROFS", treeLines(t, again, blobFiles(dir2)), want)
}

func TestOptimize(t *testing.T) {
	src := makeSource(t)
	want := osLines(t, src)
	for _, version := range []int{5, 6} {
		tree, first, dir := create(t, Dir(src), Options{Version: version, Compressor: storage.Zstd, ChunkSize: 64 << 10})
		out := Output{Bootstrap: filepath.Join(dir, "hot.boot"), BlobDir: dir}
		hot := []Hot{{Path: "/big", Offset: 1 << 20, Length: 1}, {Path: "/random"}, {Path: "/nowhere"}, {Path: "/many"}}
		res, err := Optimize(t.Context(), tree, backend(t, dir), hot, out, Options{})
		if err != nil {
			t.Fatal(err)
		}
		again := openTree(t, out.Bootstrap)
		sameLines(t, "optimized image", treeLines(t, again, blobFiles(dir)), want)
		if len(res.Blobs) != 2 || res.Blobs[0] != first.Blobs[0] {
			t.Errorf("blobs: got %v, want %v and a new one", res.Blobs, first.Blobs)
		}
		if got, want := res.Written[0].Chunks, uint32(1+39); got != want {
			t.Errorf("chunks in the hot blob: got %d, want %d", got, want)
		}
		if got := len(again.Prefetch()); got != 2 {
			t.Errorf("prefetch list: got %d files, want 2", got)
		}
	}
}

func TestCompact(t *testing.T) {
	src := makeSource(t)
	lower, _, dir := create(t, Dir(src), Options{Compressor: storage.LZ4Block, ChunkSize: 64 << 10})
	// The upper layer leaves little of the lower one.
	upper := Tars(bytesLayer("upper", archive(t, "f .wh.big", "f .wh.random", "f .wh.many", "f .wh.sparse", "f new new")))
	out := Output{Bootstrap: filepath.Join(dir, "upper.boot"), BlobDir: dir}
	two, err := Create(t.Context(), upper, out, Options{Compressor: storage.LZ4Block, ChunkSize: 64 << 10, Parent: lower})
	if err != nil {
		t.Fatal(err)
	}
	tree := openTree(t, out.Bootstrap)
	want := treeLines(t, tree, blobFiles(dir))
	if want["/new"] == "" || want["/big"] != "" || len(two.Blobs) != 2 {
		t.Fatalf("the layers are not on each other: %d entries, blobs %v", len(want), two.Blobs)
	}
	out.Bootstrap = filepath.Join(dir, "compact.boot")
	res, err := Compact(t.Context(), tree, backend(t, dir), CompactOptions{MinUsedRatio: 0.5}, out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, "compact image", treeLines(t, openTree(t, out.Bootstrap), blobFiles(dir)), want)
	if len(res.Blobs) != 2 || res.Blobs[0] != two.Blobs[1] || len(res.Written) != 1 {
		t.Errorf("blobs: got %v, want the upper layer's %s and a new one", res.Blobs, two.Blobs[1])
	}
}

// What a dictionary or a parent has is not stored again.
func TestChunkDictionary(t *testing.T) {
	src := makeSource(t)
	want := osLines(t, src)
	for _, version := range []int{5, 6} {
		dict, first, dir := create(t, Dir(src), Options{Version: version, ChunkSize: 64 << 10})
		out := Output{Bootstrap: filepath.Join(dir, "second.boot"), BlobDir: dir}
		opt := Options{Version: version, ChunkSize: 64 << 10}
		opt.Dicts = append(opt.Dicts, dict)
		res, err := Create(t.Context(), Dir(src), out, opt)
		if err != nil {
			t.Fatal(err)
		}
		sameLines(t, "image", treeLines(t, openTree(t, out.Bootstrap), blobFiles(dir)), want)
		if len(res.Written) != 0 || len(res.Blobs) != 1 || res.Blobs[0] != first.Blobs[0] || res.DedupChunks != res.Chunks {
			t.Errorf("v%d: wrote %v, refers to %v, %d of %d chunks were known; want the dictionary's blob alone", version, res.Written, res.Blobs, res.DedupChunks, res.Chunks)
		}
	}
}
