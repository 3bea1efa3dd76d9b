package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The client's system calls go past Go's scheduler: a client that has nothing
// else to do is not to be measured with it. Names are C strings.

func errorOf(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func text(name []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(name))) }

// noName is the empty C string.
var noName = []byte{0}

func callStatx(dir int, name []byte, flags int, st *unix.Statx_t) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_STATX, uintptr(dir), text(name), uintptr(flags), unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(st)), 0)
	return errorOf(errno)
}

func callOpen(dir int, name []byte, flags int) (int, error) {
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), text(name), uintptr(flags), 0o644, 0, 0)
	return int(fd), errorOf(errno)
}

func callClose(fd int) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errorOf(errno)
}

func callUnlink(dir int, name []byte) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_UNLINKAT, uintptr(dir), text(name), 0)
	return errorOf(errno)
}

func callRead(fd int, b []byte, off int64) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(off), 0, 0)
	return int(n), errorOf(errno)
}

func callWrite(fd int, b []byte, off int64) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(off), 0, 0)
	return int(n), errorOf(errno)
}

func callGetdents(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errorOf(errno)
}
