package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const fsetid = 1 << unix.CAP_FSETID

// WithoutFSETID calls f, on the thread of the caller, without the effective
// capability CAP_FSETID. What the kernel notes down of the credentials
// meanwhile, as it does for a backing file of FUSE, is without it for ever: a
// write with them clears set-id bits. Where the thread has no such capability,
// or capabilities cannot be changed, f is called all the same; ok tells
// whether it ran without.
func WithoutFSETID(f func()) (ok bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if capCall(unix.SYS_CAPGET, &hdr, &have) != 0 {
		f()
		return false
	}
	if have[0].Effective&fsetid == 0 {
		f()
		return true
	}
	less := have
	less[0].Effective &^= fsetid
	if capCall(unix.SYS_CAPSET, &hdr, &less) != 0 {
		f()
		return false
	}
	defer func() {
		if errno := capCall(unix.SYS_CAPSET, &hdr, &have); errno != 0 {
			// The capability is in the permitted set, so this cannot be refused.
			panic("sys: capset: " + errno.Error())
		}
	}()
	f()
	return true
}

// keepsSetID reports whether files keep their set-id bits when this thread
// writes to them: whether it has the effective capability CAP_FSETID. When in
// doubt it has.
func keepsSetID() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	return capCall(unix.SYS_CAPGET, &hdr, &have) != 0 || have[0].Effective&fsetid != 0
}

// capCall is capget(2) or capset(2) of this thread.
func capCall(call uintptr, hdr *unix.CapUserHeader, data *[2]unix.CapUserData) unix.Errno {
	hdr.Pid = 0
	_, _, errno := unix.RawSyscall(call, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	return errno
}
