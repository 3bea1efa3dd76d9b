package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
)

// TestIntegrationLoopbackLongPaths goes deeper than PATH_MAX.
func TestIntegrationLoopbackLongPaths(t *testing.T) {
	mnt, orig := mountLoopback(t, nil)
	fd, err := unix.Open(mnt, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 250)
	for range 30 { // 7500 bytes
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	defer unix.Close(fd)
	f, err := unix.Openat(fd, "deep", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(f)
	if _, err := unix.Pwrite(f, []byte("data"), 0); err != nil {
		t.Error(err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "deep", &st, 0); err != nil || st.Size != 4 {
		t.Errorf("size %d, %v", st.Size, err)
	}
	if err := os.RemoveAll(filepath.Join(orig, name)); err != nil {
		t.Error(err)
	}
}

// TestIntegrationLoopbackChangesBelow changes files behind the back of the
// file system: what is seen is what is there.
func TestIntegrationLoopbackChangesBelow(t *testing.T) {
	mnt, orig := mountLoopback(t, &fs.Options{})
	path, below := filepath.Join(mnt, "f"), filepath.Join(orig, "f")
	for _, content := range []string{"one", "another"} {
		os.Remove(below)
		if err := os.WriteFile(below, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("got %q, %v, want %q", b, err, content)
		}
	}
	if err := os.Remove(below); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		t.Errorf("a file that became a directory: %v, %v", st, err)
	}
}

func TestIntegrationLoopbackLocks(t *testing.T) {
	opts := &fs.Options{}
	opts.EnableLocks = true
	mnt, _ := mountLoopback(t, opts)
	open := func() *os.File {
		f, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	lock := func(f *os.File, cmd int, typ int16) error {
		return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Len: 10})
	}
	// POSIX locks belong to the process: its descriptors don't exclude each other.
	for _, f := range []*os.File{a, b} {
		if err := lock(f, unix.F_SETLK, unix.F_WRLCK); err != nil {
			t.Errorf("a lock of this process: %v", err)
		}
	}
	if err := lock(a, unix.F_SETLK, unix.F_UNLCK); err != nil {
		t.Error(err)
	}
	if err := lock(b, unix.F_SETLK, unix.F_UNLCK); err != nil {
		t.Error(err)
	}
	if err := lock(a, unix.F_OFD_SETLK, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	if err := lock(b, unix.F_OFD_SETLK, unix.F_WRLCK); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("a lock of another owner: got %v, want EAGAIN", err)
	}
	granted := make(chan error, 1)
	go func() { granted <- lock(b, unix.F_OFD_SETLKW, unix.F_WRLCK) }()
	if err := lock(a, unix.F_OFD_SETLK, unix.F_UNLCK); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-granted:
		if err != nil {
			t.Errorf("a lock that was waited for: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a lock was not granted")
	}
	if err := unix.Flock(int(a.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("flock: %v", err)
	}
	if err := unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("a second flock: got %v, want EAGAIN", err)
	}
}

// TestIntegrationLoopbackPassthrough reads and writes through files that the
// kernel may serve by itself, and through such that it may not.
func TestIntegrationLoopbackPassthrough(t *testing.T) {
	for _, off := range []bool{false, true} {
		mnt, orig := t.TempDir(), t.TempDir()
		root, err := fs.NewLoopbackRoot(orig)
		if err != nil {
			t.Fatal(err)
		}
		root.(*fs.LoopbackNode).RootData.NoPassthrough = off
		opts := &fs.Options{}
		opts.MaxStackDepth = 1
		mount(t, mnt, root, opts)
		data := bytes.Repeat([]byte("0123456789abcdef"), 10000)
		path := filepath.Join(mnt, "f")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.OpenFile(path, os.O_RDWR, 0) // a second open of the same inode
		if err != nil {
			t.Fatal(err)
		}
		copy(data[5000:], "changed")
		if _, err := b.WriteAt([]byte("changed"), 5000); err != nil {
			t.Error(err)
		}
		got := make([]byte, len(data))
		if _, err := a.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
			t.Errorf("off=%v: what was read differs, %v", off, err)
		}
		a.Close()
		b.Close()
		if below, err := os.ReadFile(filepath.Join(orig, "f")); err != nil || !bytes.Equal(below, data) {
			t.Errorf("off=%v: the file below differs, %v", off, err)
		}
	}
}

func TestIntegrationLoopbackOwnership(t *testing.T) {
	opts := &fs.Options{}
	opts.AllowOther = true
	mnt, orig := mountLoopback(t, opts)
	if err := os.Chmod(orig, 0o777); err != nil {
		t.Fatal(err)
	}
	check := func(name string, mode, uid, gid uint32) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(orig, name), &st); err != nil {
			t.Error(err)
			return
		}
		if st.Mode&0o7777 != mode || st.Uid != uid || st.Gid != gid {
			t.Errorf("%s: mode %o, owner %d:%d, want %o, %d:%d", name, st.Mode&0o7777, st.Uid, st.Gid, mode, uid, gid)
		}
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	for name, mode := range map[string]uint32{"rw": 0o666, "suid": 0o4755, "plain": 0o640} {
		fd, err := unix.Open(filepath.Join(mnt, name), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, mode)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		check(name, mode, 0, 0)
	}
	if err := unix.Mkdir(filepath.Join(mnt, "sgid"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(filepath.Join(mnt, "sgid"), 0, 1234); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(filepath.Join(mnt, "sgid"), 0o2777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkdir(filepath.Join(mnt, "sgid", "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	check("sgid/d", 0o2755, 0, 1234)
}
