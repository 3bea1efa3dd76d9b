package build

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// failing runs Create, which has to fail with an error that names want, and
// must leave nothing in the output directory dir.
func failing(t *testing.T, ctx context.Context, dir, want string, src Source, opt Options) error {
	t.Helper()
	_, err := Create(ctx, src, Output{Bootstrap: filepath.Join(dir, "image.boot"), BlobDir: dir}, opt)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error that names %q", err, want)
	}
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	return err
}

// A file that is not what it was when the directory was listed fails the
// build, whatever happened to it.
func TestSourceChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grows":     func(p string) error { return appendTo(p, "more") },
		"shrinks":   func(p string) error { return os.Truncate(p, 10) },
		"goes":      os.Remove,
		"rewritten": func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("y"), 100_000), 0o644) },
		"replaced":  func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
	} {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			for _, other := range []string{"before", "later"} {
				if err := os.WriteFile(filepath.Join(src, other), text(1, 50_000), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			victim := filepath.Join(src, "changes")
			if err := os.WriteFile(victim, bytes.Repeat([]byte("x"), 100_000), 0o644); err != nil {
				t.Fatal(err)
			}
			opt := Options{Compressor: storage.LZ4Block}
			// Total is told when the walk is over and nothing has been read.
			opt.Total = func(int64) {
				if err := change(victim); err != nil {
					t.Error(err)
				}
			}
			err := failing(t, t.Context(), t.TempDir(), victim, Dir(src), opt)
			if e := (*Error)(nil); !errors.As(err, &e) || e.Path != victim {
				t.Errorf("got %#v, want an Error with path %s", err, victim)
			}
		})
	}
}

func appendTo(path, s string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s)
	return errors.Join(err, f.Close())
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	opt := Options{Progress: func(int64) { cancel() }, ChunkSize: 4096}
	if err := failing(t, ctx, t.TempDir(), "canceled", Dir(makeSource(t)), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// A sparse file may claim any size: what an image can not hold is refused by
// name, and quickly.
func TestSparseBeyondLimit(t *testing.T) {
	src := t.TempDir()
	huge := filepath.Join(src, "huge")
	if err := os.WriteFile(huge, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<37); err != nil {
		t.Fatal(err)
	}
	failing(t, t.Context(), t.TempDir(), huge, Dir(src), Options{ChunkSize: 4096})
}

func TestNoSource(t *testing.T) {
	failing(t, t.Context(), t.TempDir(), "/no/such/dir", Dir("/no/such/dir"), Options{})
	failing(t, t.Context(), t.TempDir(), "/no/such/tar", Tars(TarFile("/no/such/tar")), Options{})
}

func TestOptionsRefused(t *testing.T) {
	for want, opt := range map[string]Options{
		"chunk size":   {ChunkSize: 5000},
		"version":      {Version: 4},
		"batch":        {Version: 5, BatchSize: 1 << 20},
		"batch size":   {BatchSize: 12345},
		"level":        {Level: 9},
		"compressor":   {Compressor: storage.Gzip},
		"digester":     {Digester: 7},
		"holes":        {Version: 5, NullHoles: true},
		"chunking 3":   {Chunking: 3},
		"content-def":  {Chunking: ContentChunks},
		"table of con": {Version: 5, TOC: true},
	} {
		failing(t, t.Context(), t.TempDir(), want, Dir(t.TempDir()), opt)
	}
}

// The blob may be a pipe: then it is written as it comes.
func TestBlobToPipe(t *testing.T) {
	src := makeSource(t)
	_, want, dir := create(t, Dir(src), Options{InlineMeta: true, TOC: true})
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			t.Error(err)
			close(got)
			return
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	if _, err := Create(t.Context(), Dir(src), Output{Blob: pipe}, Options{InlineMeta: true, TOC: true}); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(want.Written[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, file) {
		t.Errorf("through the pipe came %d bytes, other than the %d of the file", len(b), len(file))
	}
}

// A disk that is full gives an error that names the output.
func TestIntegrationDiskFull(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "tmpfs")
	src := makeSource(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := failing(t, t.Context(), dir, dir, Dir(src), Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want %v", err, unix.ENOSPC)
	}
}

// An output that exists is replaced only by a complete one.
func TestOutputKeptOnFailure(t *testing.T) {
	dir := t.TempDir()
	boot := filepath.Join(dir, "image.boot")
	if err := os.WriteFile(boot, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := Output{Bootstrap: boot, BlobDir: dir}
	if _, err := Create(t.Context(), Dir("/no/such/dir"), out, Options{}); err == nil {
		t.Fatal("no error")
	}
	if b, err := os.ReadFile(boot); err != nil || string(b) != "old" {
		t.Errorf("after a failure: got %q, %v, want the old bytes", b, err)
	}
	if _, err := Create(t.Context(), Dir(makeSource(t)), out, Options{}); err != nil {
		t.Fatal(err)
	}
	if got := len(list(t, dir)); got != 2 {
		t.Errorf("files: got %d, want the bootstrap and the blob", got)
	}
	openTree(t, boot)
}

// Where a file can not do without a name, what a killed process left goes
// away with the next build, and what a living one writes stays.
func TestStaleTemporaries(t *testing.T) {
	dir := t.TempDir()
	busy, name, err := openNamedTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	stale := filepath.Join(dir, tempPrefix+"stale")
	if err := os.WriteFile(stale, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, second, err := openNamedTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale file: got %v, want that it is gone", err)
	}
	for _, n := range []string{name, second} {
		if _, err := os.Stat(n); err != nil {
			t.Errorf("a file that is written: %v", err)
		}
	}
	out := &outFile{f: again, temp: second, name: filepath.Join(dir, "final")}
	if err := out.publish(); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dir); len(got) != 2 {
		t.Errorf("files: got %v, want the busy one and the final one", got)
	}
}
