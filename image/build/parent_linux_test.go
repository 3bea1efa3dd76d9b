package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// A directory is put on top of the parent: it adds, replaces, hides.
func TestDirOnParent(t *testing.T) {
	put := func(files map[string]string) string {
		root := t.TempDir()
		for name, data := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	lower := put(map[string]string{"a/kept": "one", "a/changed": "two", "a/hidden": "three", "gone/x": "four"})
	upper := put(map[string]string{"a/changed": "new words", "a/.wh.hidden": "", ".wh.gone": "", "b/more": "five"})
	for _, version := range []int{5, 6} {
		opt := Options{Version: version, Compressor: storage.Zstd}
		parent, _, dir := create(t, Dir(lower), opt)
		opt.Parent = parent
		out := Output{Bootstrap: filepath.Join(dir, "both.boot"), BlobDir: dir, volatile: true}
		res, err := Create(t.Context(), Dir(upper), out, opt)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Blobs) != 2 || len(res.Written) != 1 {
			t.Errorf("v%d: blobs: got %v, written %v", version, res.Blobs, res.Written)
		}
		clean(t, out.Bootstrap, dir)
		tree := openTree(t, out.Bootstrap)
		for path, want := range map[string]int64{"a/kept": 3, "a/changed": 9, "a/hidden": -1, "gone": -1, "b/more": 4, "a/.wh.hidden": -1} {
			got := int64(-1)
			nid, err := tree.Root(), error(nil)
			for name := range strings.SplitSeq(path, "/") {
				if err == nil {
					nid, err = tree.Lookup(nid, name)
				}
			}
			if err == nil {
				var st image.Inode
				if err := tree.Stat(nid, &st); err != nil {
					t.Fatal(err)
				}
				got = int64(st.Size)
			}
			if got != want {
				t.Errorf("v%d: size of %s: got %d, want %d", version, path, got, want)
			}
		}
	}
}
