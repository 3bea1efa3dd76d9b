package unpack_test

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image/unpack"
)

func TestTarToWhatIsNoFile(t *testing.T) {
	tree, dir := open(t, filepath.Join(testdata, "rafs-v6-2.2.boot"))
	base := t.TempDir()
	pipe := filepath.Join(base, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	type got struct {
		names int
		err   error
	}
	read := make(chan got, 1)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			read <- got{0, err}
			return
		}
		defer f.Close()
		n := 0
		for tr := tar.NewReader(f); ; n++ {
			if _, err := tr.Next(); err != nil {
				_, _ = io.Copy(io.Discard, f)
				if errors.Is(err, io.EOF) {
					err = nil
				}
				read <- got{n, err}
				return
			}
		}
	}()
	r, err := unpack.TarFile(t.Context(), tree, pipe, unpack.Options{Backend: dir})
	if fi, lerr := os.Lstat(pipe); lerr != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
		t.Fatalf("what was a pipe is %v, %v", fi, lerr)
	}
	if err != nil {
		t.Fatal(err)
	}
	if g := <-read; g.err != nil || g.names == 0 || uint64(g.names) < r.Entries {
		t.Errorf("through the pipe: %d names, %v; %d entries", g.names, g.err, r.Entries)
	}
	if _, err := unpack.TarFile(t.Context(), tree, base, unpack.Options{Backend: dir}); err == nil {
		t.Error("a directory in place of a tar: got no error")
	}
}
