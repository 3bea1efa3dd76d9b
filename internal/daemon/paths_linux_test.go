package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A log that is a pipe, a device or a terminal is not set aside.
func TestLogThatIsNoFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := OpenLog(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 5 {
		if _, err := l.Write([]byte("a longer line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("what was a pipe is %v, %v", fi, err)
	}
	if _, err := os.Lstat(path + ".1"); err == nil {
		t.Error("the pipe was set aside")
	}
}

func TestSocketsReplaceOnlySockets(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink(os.DevNull, path) },
	} {
		path := filepath.Join(t.TempDir(), "socket")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s: a daemon listens in its place", name)
		}
		if err := (&Supervisor{Path: path}).Run(t.Context()); err == nil {
			t.Errorf("%s: a supervisor listens in its place", name)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: is %v, %v now", name, after, err)
		}
		if _, err := os.Lstat(path + ".lock"); err == nil {
			t.Errorf("%s: a lock file was left", name)
		}
	}
}
