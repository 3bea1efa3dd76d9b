package serve

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// programTree makes an image of files, the names of programs ending in "+".
func programTree(t *testing.T, files map[string][]byte) image.Tree {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	for name, data := range files {
		mode := os.FileMode(0o644)
		if name[len(name)-1] == '+' {
			name, mode = name[:len(name)-1], 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	res, err := build.Create(t.Context(), build.Dir(dir), build.Output{Bootstrap: filepath.Join(out, "image.boot"), BlobDir: out},
		build.Options{ChunkSize: 64 << 10, Compressor: storage.None})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := detect.Open(res.Bootstrap, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// gatedReader gives zeros, but the bytes of head where the file begins, once
// open is closed; and says what was fetched ahead.
type gatedReader struct {
	open chan struct{}
	head []byte

	mu   sync.Mutex
	soon []storage.Extent
	asks int
}

func (r *gatedReader) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	select {
	case <-r.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	clear(p)
	if off := ext[0].FileOffset; off < int64(len(r.head)) {
		copy(p, r.head[off:])
	}
	return nil
}

func (r *gatedReader) Prefetch(context.Context, []storage.Extent) error { return nil }

func (r *gatedReader) PrefetchSoon(_ context.Context, ext []storage.Extent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.soon = append(r.soon, ext...)
	r.asks++
	return nil
}

// wants reports whether the chunk with byte off of the file at path is among
// what was fetched ahead.
func (r *gatedReader) wants(t *testing.T, tree image.Tree, path string, off int64) bool {
	t.Helper()
	nid, err := image.Find(tree, path)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := tree.Extents(nil, nid, off, 1)
	if err != nil || len(ext) != 1 {
		t.Fatalf("extents of %s: %v, %v", path, ext, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.soon, func(e storage.Extent) bool { return e.Chunk.Offset == ext[0].Chunk.Offset })
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// TestProgramIsFetchedWithItsHead: while somebody waits for the beginning of
// a program, its end, what follows and the loader are fetched beside it; when
// the loader is read, the libraries that it names.
func TestProgramIsFetchedWithItsHead(t *testing.T) {
	tree := programTree(t, map[string][]byte{
		"bin/prog+":                    noise(2<<20, 1),
		"lib64/ld-linux-x86-64.so.2+":  noise(100_000, 2),
		"etc/ld.so.cache":              noise(3000, 3),
		"usr/lib/libneeded.so":         noise(70_000, 4),
		"usr/lib/libother.so":          noise(70_000, 5),
		"usr/share/doc/no-program.txt": noise(70_000, 6),
	})
	r := &gatedReader{open: make(chan struct{}), head: imagetest.Program("/lib64/ld-linux-x86-64.so.2", "libneeded.so")}
	p := newPrograms(tree, r, slog.New(slog.DiscardHandler))
	rec := &recorder{programs: p}
	nid, err := image.Find(tree, "/bin/prog")
	if err != nil {
		t.Fatal(err)
	}
	rec.Waits(nid, 4096) // not its beginning
	if text, err := image.Find(tree, "/usr/share/doc/no-program.txt"); err != nil {
		t.Fatal(err)
	} else {
		rec.Waits(text, 0) // nobody can run it
	}
	rec.Waits(nid, 0)
	testenv.Until(t, "the first is asked for", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.asks > 0 })
	for what, c := range map[string]struct {
		path string
		off  int64
		want bool
	}{
		"the end":            {"/bin/prog", 2<<20 - 1, true},
		"what follows":       {"/bin/prog", 64 << 10, true},
		"the middle":         {"/bin/prog", 800 << 10, false},
		"the loader":         {"/lib64/ld-linux-x86-64.so.2", 0, true},
		"the loader's cache": {"/etc/ld.so.cache", 0, true},
		"a library":          {"/usr/lib/libneeded.so", 0, false},
		"a text":             {"/usr/share/doc/no-program.txt", 0, false},
	} {
		if got := r.wants(t, tree, c.path, c.off); got != c.want {
			t.Errorf("%s, before the head is there: fetched %v, want %v", what, got, c.want)
		}
	}
	close(r.open)
	p.wg.Wait()
	if r.wants(t, tree, "/usr/lib/libneeded.so", 0) {
		t.Error("a library was fetched for a program that was only read")
	}
	rec.Read(p.loader[0], 0, 4096, 0, nil) // now it runs
	testenv.Until(t, "the library is asked for", func() bool { return r.wants(t, tree, "/usr/lib/libneeded.so", 0) })
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if r.wants(t, tree, "/usr/lib/libother.so", 0) {
		t.Error("a library that nobody names was fetched")
	}
}

// TestNoProgramsAreNotGuessed: where files may be run that are no programs,
// guessing ends after a few.
func TestNoProgramsAreNotGuessed(t *testing.T) {
	files := map[string][]byte{"lib64/ld-linux-x86-64.so.2": noise(5000, 9)}
	for i := range 10 {
		files[fmt.Sprintf("data/%d+", i)] = noise(1<<20, byte(i))
	}
	tree := programTree(t, files)
	r := &gatedReader{open: make(chan struct{})}
	close(r.open)
	p := newPrograms(tree, r, slog.New(slog.DiscardHandler))
	defer p.Close()
	guessed := 0
	for i := range 10 {
		path := fmt.Sprintf("/data/%d", i)
		nid, err := image.Find(tree, path)
		if err != nil {
			t.Fatal(err)
		}
		p.began(nid)
		p.wg.Wait()
		if r.wants(t, tree, path, 1<<20-1) {
			guessed++
		}
	}
	if guessed != maxWrong {
		t.Errorf("the ends of %d files that are no programs were fetched, want %d", guessed, maxWrong)
	}
}
