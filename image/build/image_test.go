package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/storage"
)

// blobFiles is a directory with blobs.
type blobFiles string

// backend opens the blobs in a directory.
func backend(t testing.TB, dir string) storage.Backend {
	t.Helper()
	b, err := direct.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// treeLines lists an image, contents by SHA-256.
func treeLines(t testing.TB, tree image.Tree, blobs blobFiles) map[string]string {
	t.Helper()
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(t.Context(), backend(t, string(blobs))); err != nil {
			t.Fatal(err)
		}
	}
	reader := direct.NewReader(backend(t, string(blobs)))
	lines := map[string]string{}
	err := imagetest.Walk(tree, 100_000, func(e *imagetest.Entry) error {
		sum := ""
		if e.Mode&0o170000 == 0o100000 {
			h := sha256.New()
			if err := reader.Copy(t.Context(), h, tree, e.NID, int64(e.Size)); err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			sum = hex.EncodeToString(h.Sum(nil))
		}
		if e.Mode&0o170000 == 0o40000 {
			e.Size = 0
		}
		lines[e.Path] = e.Line("-", sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// sameLines compares two listings.
func sameLines(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	bad := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			if bad++; bad < 10 {
				t.Errorf("%s: %s\ngot  %.400q\nwant %.400q", what, path, got[path], want[path])
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if want[path] == "" {
			t.Errorf("%s: %s is too much", what, path)
		}
	}
	if bad > 0 {
		t.Errorf("%s: %d of %d entries differ", what, bad, len(want))
	}
}

// create builds an image of src in a new directory and opens it.
func create(t testing.TB, src Source, opt Options) (tree image.Tree, res *Result, dir string) {
	t.Helper()
	dir = t.TempDir()
	res, err := Create(t.Context(), src, Output{Bootstrap: filepath.Join(dir, "image.boot"), BlobDir: dir, volatile: true}, opt)
	if err != nil {
		t.Fatal(err)
	}
	return openTree(t, filepath.Join(dir, "image.boot")), res, dir
}

func openTree(t testing.TB, path string) image.Tree {
	t.Helper()
	tree, err := detect.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// hashFile returns the SHA-256 of a file.
func hashFile(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// list returns the names in a directory, also those of temporary files.
func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// randomBytes returns n bytes that do not compress and depend on seed only.
func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// text returns n bytes that compress.
func text(seed uint64, n int) []byte {
	words := strings.Fields("chunk blob extent layer digest mount kernel inode bootstrap prefetch cache range")
	r := rand.New(rand.NewPCG(seed, 2))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(" \n"[r.IntN(2)])
	}
	return b.Bytes()[:n]
}
