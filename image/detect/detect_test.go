package detect_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
)

func open(t *testing.T, name string) image.Tree {
	t.Helper()
	tree, err := detect.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func TestFixturesHaveTheExpectedTree(t *testing.T) {
	const dir = "../rafs/testdata"
	for _, name := range [...]string{"rafs-v6-2.2", "v5-blake3-none-ext", "v5-blake3-lz4-noext"} {
		t.Run(name, func(t *testing.T) {
			imagetest.Expect(t, open(t, filepath.Join(dir, name+".boot")), imagetest.Listing(t, filepath.Join(dir, name+".tsv")), nil)
		})
	}
}

func TestLargeFixturesHaveTheExpectedTree(t *testing.T) {
	dir := testenv.Fixtures(t)
	for _, tt := range [...]struct{ boot, want string }{
		{"v6/v6-bootstrap-chunk-pos-438272.boot", "expect/v6-bootstrap-chunk-pos-438272.tsv"},
		{"gen/v6-zstd-64k/image.boot", "gen/v6-zstd-64k/truth.tsv"},
	} {
		t.Run(tt.boot, func(t *testing.T) {
			imagetest.Expect(t, open(t, filepath.Join(dir, tt.boot)), imagetest.Listing(t, filepath.Join(dir, tt.want)), nil)
		})
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	for _, tt := range [...]struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"short", []byte("RAFS")},
		{"zeros", make([]byte, 8192)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			tree, err := detect.Open(file, nil)
			var format *image.FormatError
			if !errors.As(err, &format) || tree != nil {
				t.Errorf("got %v, %v; want a FormatError", tree, err)
			}
		})
	}
}
