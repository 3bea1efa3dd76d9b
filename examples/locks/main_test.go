package main

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// TestIntegrationLocks uses locks of open file descriptions, of which one
// process can have several that exclude each other.
func TestIntegrationLocks(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	server, err := mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	open := func() *os.File {
		f, err := os.OpenFile(dir+"/file", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	lock := func(f *os.File, cmd int, typ int16, start, n int64) error {
		return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Start: start, Len: n})
	}
	if err := lock(a, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 100); err != nil {
		t.Fatal(err)
	}
	if err := lock(b, unix.F_OFD_SETLK, unix.F_RDLCK, 50, 10); err != syscall.EAGAIN {
		t.Errorf("a lock inside of another's: got %v, want EAGAIN", err)
	}
	if err := lock(b, unix.F_OFD_SETLK, unix.F_WRLCK, 100, 10); err != nil {
		t.Errorf("a lock behind another's: %v", err)
	}
	got := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 200}
	if err := unix.FcntlFlock(b.Fd(), unix.F_OFD_GETLK, &got); err != nil || got.Type != unix.F_WRLCK || got.Start != 0 || got.Len != 100 {
		t.Errorf("what is in the way: %+v, %v", got, err)
	}
	granted := make(chan error, 1)
	go func() { granted <- lock(b, unix.F_OFD_SETLKW, unix.F_WRLCK, 0, 100) }()
	if err := lock(a, unix.F_OFD_SETLK, unix.F_UNLCK, 0, 100); err != nil {
		t.Fatal(err)
	}
	if err := <-granted; err != nil {
		t.Errorf("a lock that was waited for: %v", err)
	}
}
