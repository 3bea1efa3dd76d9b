package fstest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// pattern returns n bytes that tell their position.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8 ^ i*7)
	}
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errnoIs checks that err is the wanted errno.
func errnoIs(t *testing.T, what string, err error, want unix.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func content(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, want %d, or they differ", filepath.Base(path), len(got), len(want))
	}
}

func writeRead(t *testing.T, dir string) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 1<<20 + 3} {
		path := filepath.Join(dir, "f")
		check(t, os.WriteFile(path, pattern(n), 0o644))
		content(t, path, pattern(n))
		st, err := os.Stat(path)
		check(t, err)
		if st.Size() != int64(n) {
			t.Errorf("size: got %d, want %d", st.Size(), n)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("hello"), 100000)
	check(t, err)
	check(t, f.Sync())
	b := make([]byte, 7)
	_, err = f.ReadAt(b, 99999)
	check(t, err)
	want := pattern(1<<20 + 3)[99999:100006]
	copy(want[1:], "hello")
	if !bytes.Equal(b, want) {
		t.Errorf("overwritten part: got %q, want %q", b, want)
	}
	if n, err := f.ReadAt(b, 2<<20); n != 0 || err != io.EOF {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
}

func appendWrites(t *testing.T, dir string) {
	path := filepath.Join(dir, "log")
	a, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	check(t, err)
	defer a.Close()
	b, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	defer b.Close()
	for range 10 {
		_, err = a.WriteString("a")
		check(t, err)
		_, err = b.WriteString("b")
		check(t, err)
	}
	content(t, path, bytes.Repeat([]byte("ab"), 10))
}

func truncate(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	data := pattern(10000)
	check(t, os.WriteFile(path, data, 0o644))
	check(t, os.Truncate(path, 5000))
	content(t, path, data[:5000])
	check(t, os.Truncate(path, 8000))
	content(t, path, append(data[:5000:5000], make([]byte, 3000)...))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(1))
	content(t, path, data[:1])
	check(t, f.Truncate(0))
	content(t, path, nil)
	f2, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	check(t, err)
	check(t, f2.Close())
}

func sparseWrite(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	const off = 3<<20 + 17
	_, err = f.WriteAt([]byte("end"), off)
	check(t, err)
	content(t, path, append(make([]byte, off), "end"...))
}

func openFlags(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	_, err := os.Open(path)
	errnoIs(t, "open of what does not exist", err, unix.ENOENT)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	check(t, err)
	_, err = f.Read(make([]byte, 1))
	errnoIs(t, "read from what is open for writing", err, unix.EBADF)
	f.Close()
	_, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	errnoIs(t, "O_EXCL of what exists", err, unix.EEXIST)
	_, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	errnoIs(t, "O_DIRECTORY of a file", err, unix.ENOTDIR)
	_, err = os.OpenFile(dir, os.O_WRONLY, 0)
	errnoIs(t, "open of a directory for writing", err, unix.EISDIR)
	_, err = os.Open(filepath.Join(path, "x"))
	errnoIs(t, "open below a file", err, unix.ENOTDIR)
}

func unlinked(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	check(t, err)
	defer f.Close()
	_, err = f.WriteString("still here")
	check(t, err)
	check(t, os.Remove(path))
	_, err = os.Lstat(path)
	errnoIs(t, "stat of the name", err, unix.ENOENT)
	var st unix.Stat_t
	check(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != 10 || st.Nlink != 0 {
		t.Errorf("fstat: size %d, links %d, want 10, 0", st.Size, st.Nlink)
	}
	_, err = f.WriteAt([]byte("S"), 0)
	check(t, err)
	b := make([]byte, 10)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "Still here" {
		t.Errorf("read: %q, %v", b, err)
	}
	check(t, f.Truncate(3))
	check(t, f.Chmod(0o600))
	check(t, os.WriteFile(path, []byte("another"), 0o644))
	content(t, path, []byte("another"))
	if _, err := f.ReadAt(b[:3], 0); err != nil || string(b[:3]) != "Sti" {
		t.Errorf("read after the name came back: %q, %v", b[:3], err)
	}
}

func allocate(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	check(t, err)
	defer f.Close()
	check(t, unix.Fallocate(int(f.Fd()), 0, 0, 10000))
	content(t, f.Name(), make([]byte, 10000))
	check(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 20000))
	st, err := f.Stat()
	check(t, err)
	if st.Size() != 10000 {
		t.Errorf("size with KEEP_SIZE: got %d, want 10000", st.Size())
	}
}

func punchHole(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	check(t, err)
	defer f.Close()
	want := pattern(300000)
	_, err = f.Write(want)
	check(t, err)
	check(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1000, 200000))
	clear(want[1000:201000])
	content(t, f.Name(), want)
}

func seekData(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	check(t, err)
	defer f.Close()
	const off = 8 << 20
	_, err = f.WriteAt([]byte("data"), off)
	check(t, err)
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	check(t, err)
	if at > off {
		t.Errorf("SEEK_DATA: got %d, want at most %d", at, off)
	}
	at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE)
	check(t, err)
	if at < off || at > off+4 && at%512 != 0 {
		t.Errorf("SEEK_HOLE: got %d", at)
	}
	_, err = unix.Seek(int(f.Fd()), off+100, unix.SEEK_DATA)
	errnoIs(t, "SEEK_DATA behind the end", err, unix.ENXIO)
}

func tmpfile(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	check(t, err)
	f := os.NewFile(uintptr(fd), "tmpfile")
	defer f.Close()
	_, err = f.WriteString("named later")
	check(t, err)
	names, err := os.ReadDir(dir)
	check(t, err)
	if len(names) != 0 {
		t.Errorf("the directory has %d names, want 0", len(names))
	}
	path := filepath.Join(dir, "f")
	check(t, unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW))
	content(t, path, []byte("named later"))
}

func mmap(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	data := pattern(20000)
	check(t, os.WriteFile(path, data, 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	// The pages are filled by MAP_POPULATE, in a system call: a fault in Go
	// code would hold up the scheduler, which also runs the server.
	m, err := unix.Mmap(int(f.Fd()), 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	check(t, err)
	if !bytes.Equal(m, data) {
		t.Error("the mapping differs from the file")
	}
	copy(m[5000:], "mapped")
	copy(data[5000:], "mapped")
	check(t, unix.Msync(m, unix.MS_SYNC))
	check(t, unix.Munmap(m))
	content(t, path, data)
}
