package imagetest

import (
	"embed"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

//go:embed testdata/*.zst
var fixtures embed.FS

// Fixtures unpacks the images of other programs that this package keeps, see
// testdata/README.md, into a directory of the test's and returns that.
func Fixtures(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	list, err := fixtures.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for _, e := range list {
		b, err := fixtures.ReadFile("testdata/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := decoder.DecodeAll(b, nil)
		if err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(e.Name(), ".zst")), plain, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
