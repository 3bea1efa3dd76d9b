package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/detect"
)

// FuzzTars makes images of two tars that nobody has looked at. Either there
// is an error, or an image that the checker finds nothing wrong with.
func FuzzTars(f *testing.F) {
	f.Add(archive(f, "d a", "f a/one 1", "l s a", "h hard a/one", "c null"), archive(f, "f a/.wh.one", "o a", "f s/x x"))
	f.Add(archive(f, "f .wh..wh..opq", "l loop loop", "f loop/x x"), []byte("no tar"))
	f.Add([]byte{0x1f, 0x8b, 8, 0}, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		for _, opt := range []Options{{Version: 6, ChunkSize: 4096}, {Version: 5, Whiteouts: WhiteoutsOverlayfs}, {Version: 5, Chunking: ContentChunks, ChunkSize: 4096}} {
			dir := t.TempDir()
			out := Output{Bootstrap: filepath.Join(dir, "image.boot"), BlobDir: dir, volatile: true}
			_, err := Create(t.Context(), Tars(bytesLayer("lower", lower), bytesLayer("upper", upper)), out, opt)
			if err != nil {
				if left := list(t, dir); len(left) != 0 {
					t.Fatalf("after %v: left behind: %v", err, left)
				}
				continue
			}
			clean(t, out.Bootstrap, dir)
		}
	})
}

// clean has the checker look at the image and its blobs.
func clean(t testing.TB, path, dir string) {
	t.Helper()
	report, err := check.Run(t.Context(), openTree(t, path), check.Options{Backend: backend(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("check: %s: %s", p.Path, p.What)
	}
}

// FuzzMerge merges hostile bootstraps and exports them: no panic, no endless
// loop, no memory that the image's numbers ask for.
func FuzzMerge(f *testing.F) {
	for _, version := range []int{5, 6} {
		for _, lines := range [][]string{{"d a", "f a/one 1", "l s a", "h hard a/one"}, {"f .wh.a", "f two " + string(text(1, 9000))}} {
			dir := f.TempDir()
			path := filepath.Join(dir, "boot")
			opt := Options{Version: version, ChunkSize: 4096, Whiteouts: WhiteoutsNone, Prefetch: PrefetchFS, PrefetchPaths: []string{"/"}}
			if _, err := Create(f.Context(), Tars(bytesLayer("layer", archive(f, lines...))), Output{Bootstrap: path, BlobDir: dir, volatile: true}, opt); err != nil {
				f.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "boot")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		tree, err := detect.Open(path, nil)
		if err != nil {
			return
		}
		defer tree.Close()
		out := Output{Bootstrap: path + ".merged", volatile: true}
		if _, err := Merge(t.Context(), []MergeLayer{{Tree: tree}, {Tree: tree}}, out, Options{}); err != nil {
			return
		}
		merged, err := detect.Open(out.Bootstrap, nil)
		if err != nil {
			t.Fatalf("the merged image: %v", err)
		}
		defer merged.Close()
		// There are no blobs: only an image without data can be exported.
		if _, err := Export(t.Context(), merged, nil, path+".flat", ExportOptions{volatile: true}); err != nil {
			return
		}
		flat, err := detect.Open(path+".flat", nil)
		if err != nil {
			t.Fatalf("the exported image: %v", err)
		}
		flat.Close()
	})
}
