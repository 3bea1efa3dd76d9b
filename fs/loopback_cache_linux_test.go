package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
)

// TestIntegrationLoopbackOpensWhatIsThere changes a file and a directory below
// again and again, without a change of the size: an open that follows sees the
// new data and names, however long the kernel may keep attributes.
func TestIntegrationLoopbackOpensWhatIsThere(t *testing.T) {
	hour := time.Hour
	mnt, orig := mountLoopback(t, &fs.Options{AttrTimeout: &hour})
	var before string
	for i := range 300 {
		want := fmt.Sprintf("data %03d", i)
		if err := os.WriteFile(filepath.Join(orig, "f"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(orig, want), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if before != "" {
			if err := os.Remove(filepath.Join(orig, before)); err != nil {
				t.Fatal(err)
			}
		}
		before = want
		for range 2 {
			got, err := os.ReadFile(filepath.Join(mnt, "f"))
			if err != nil || string(got) != want {
				t.Fatalf("round %d: got %q, %v, want %q", i, got, err, want)
			}
			names, err := list(mnt)
			if err != nil || !slices.Equal(names, []string{want, "f"}) {
				t.Fatalf("round %d: got %q, %v, want %q and f", i, names, err, want)
			}
		}
	}
}

func list(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
