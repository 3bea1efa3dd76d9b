package sys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(in("file"), []byte("old"), 0o600), os.Mkdir(in("dir"), 0o700),
		os.Symlink("file", in("to-file")), os.Symlink("dir", in("to-dir")), os.Symlink("nothing", in("to-nothing")),
		os.Symlink(os.DevNull, in("to-device")),
	); err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"new": "new", "file": "file", "to-file": "file"} {
		if got, through, err := Output(in(name)); err != nil || through != nil || got != in(want) {
			t.Errorf("%s: %s, %v, %v", name, got, through, err)
		}
	}
	for _, name := range []string{"dir", "to-dir", "to-nothing", "file/below"} {
		if got, through, err := Output(in(name)); err == nil {
			t.Errorf("%s: %s, %v without an error", name, got, through)
		}
	}
	_, through, err := Output(in("to-device"))
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	if fi, err := through.Stat(); err != nil || fi.Mode()&fs.ModeDevice == 0 {
		t.Errorf("a link to a device leads to %v, %v", fi, err)
	}
}

// What /dev/stdout leads to after "> file; rm file".
func TestOutputWithoutAName(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "stdout")
	if err := os.Symlink("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), link); err != nil {
		t.Fatal(err)
	}
	_, through, err := Output(link)
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	if _, err := through.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOutputPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, through, err := Output(name)
	if err != nil {
		t.Fatal(err)
	}
	through.Close()
}
