package sys

import (
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// asThread calls f on a thread of its own, which has these effective
// capabilities alone, and is not used again.
func asThread(t *testing.T, effective uint32, f func()) {
	t.Helper()
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		caps := [2]unix.CapUserData{{Effective: effective, Permitted: effective}}
		errno := capCall(unix.SYS_CAPSET, &hdr, &caps)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatalf("capset: %v", errno)
	}
}

// A server without privileges may write to a file that it does not own, and the
// kernel takes the set-id bits: that it may not do it itself is no error, unless
// the bits would stay then.
func TestIntegrationDropSetIDOfOthers(t *testing.T) {
	testenv.Root(t)
	for name, c := range map[string]struct {
		caps uint32
		want syscall.Errno
		mode uint32 // after a write
	}{
		"no capability": {0, 0, 0o777}, "CAP_FSETID": {fsetid, syscall.EPERM, 0o4777}, "CAP_FOWNER": {1 << unix.CAP_FOWNER, 0, 0o777},
	} {
		path := t.TempDir() + "/f"
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Fchown(fd, 1234, 1234); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fchmod(fd, 0o4777); err != nil {
			t.Fatal(err)
		}
		var got, writeErr syscall.Errno
		asThread(t, c.caps, func() {
			got = DropSetID(fd, 1234, 0)
			_, _, writeErr = unix.RawSyscall(unix.SYS_FTRUNCATE, uintptr(fd), 1, 0)
		})
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || writeErr != 0 {
			t.Fatal(err, writeErr)
		}
		if got != c.want || st.Mode&0o7777 != c.mode {
			t.Errorf("%s: got %v and mode %o, want %v and %o", name, got, st.Mode&0o7777, c.want, c.mode)
		}
	}
}
