package build

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/storage"
)

// Layers that were made one by one, with the bootstrap in the blob, and
// merged, are what they are when made at once.
func TestMerge(t *testing.T) {
	lower := archive(t, "d a", "f a/one "+strings.Repeat("1", 100_000), "f a/two 2", "f keep k", "h a/link keep")
	upper := archive(t, "d a", "f a/.wh.one", "f a/two "+strings.Repeat("two", 50_000), "f new n")
	for _, version := range []int{5, 6} {
		opt := Options{Version: version, Compressor: storage.Zstd, ChunkSize: 4096}
		once, _, onceDir := create(t, Tars(bytesLayer("lower", lower), bytesLayer("upper", upper)), opt)
		want := treeLines(t, once, blobFiles(onceDir))

		opt.InlineMeta, opt.TOC, opt.Whiteouts = true, version == 6, WhiteoutsNone
		dir := t.TempDir()
		var layers []MergeLayer
		for i, b := range [][]byte{lower, upper} {
			boot := filepath.Join(dir, []string{"one", "two"}[i])
			res, err := Create(t.Context(), Tars(bytesLayer("layer", b)), Output{Bootstrap: boot, BlobDir: dir}, opt)
			if err != nil {
				t.Fatal(err)
			}
			tree, err := detect.Open(boot, &detect.Options{BlobID: res.Written[0].ID})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			w := res.Written[0]
			layers = append(layers, MergeLayer{Tree: tree, ID: w.ID, Size: w.Size, TOCDigest: w.TOCDigest, TOCSize: w.TOCSize})
		}
		out := Output{Bootstrap: filepath.Join(dir, "merged")}
		res, err := Merge(t.Context(), layers, out, Options{Prefetch: PrefetchFS, PrefetchPaths: []string{"/"}})
		if err != nil {
			t.Fatal(err)
		}
		merged := openTree(t, out.Bootstrap)
		sameLines(t, "merged image", treeLines(t, merged, blobFiles(dir)), want)
		if len(res.Blobs) != 2 || res.Blobs[0] != layers[0].ID || res.Blobs[1] != layers[1].ID {
			t.Errorf("v%d blobs: got %v, want those of the layers", version, res.Blobs)
		}
		if p := merged.Prefetch(); len(p) != 1 || p[0] != merged.Root() {
			t.Errorf("v%d prefetch list: got %v, want the root", version, p)
		}
	}
}

func TestMergeRefusesOtherKinds(t *testing.T) {
	one, _, _ := create(t, Tars(bytesLayer("one", archive(t, "f one 1"))), Options{})
	for _, opt := range []Options{{Version: 5}, {ChunkSize: 4096}, {Digester: storage.SHA256}, {Repeatable: true}} {
		two, _, _ := create(t, Tars(bytesLayer("two", archive(t, "f two 2"))), opt)
		out := Output{Bootstrap: filepath.Join(t.TempDir(), "merged")}
		if _, err := Merge(t.Context(), []MergeLayer{{Tree: one}, {Tree: two}}, out, Options{}); err == nil || !strings.Contains(err.Error(), "layer 2") {
			t.Errorf("%+v: got %v, want an error that names layer 2", opt, err)
		}
	}
}
