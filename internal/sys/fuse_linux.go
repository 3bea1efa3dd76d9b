package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of /dev/fuse, from include/uapi/linux/fuse.h.
const (
	fuseDevClone        = 0x8004e500 // _IOR(229, 0, uint32)
	fuseDevBackingOpen  = 0x4010e501 // _IOW(229, 1, struct fuse_backing_map)
	fuseDevBackingClose = 0x4004e502 // _IOW(229, 2, uint32)
	fuseDevSyncInit     = 0xe503     // _IO(229, 3)
)

// OpenFUSE opens /dev/fuse, close-on-exec and blocking. The descriptor is not
// an os.File on purpose: Go's poller must not see it.
func OpenFUSE() (fd int, err error) {
	for {
		fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// CloneFUSE opens a further descriptor of the session that fd belongs to.
// Requests that were read from one descriptor are answered on that one.
func CloneFUSE(fd int) (int, error) {
	c, err := OpenFUSE()
	if err != nil {
		return -1, err
	}
	id := uint32(fd)
	if err := ioctl(c, fuseDevClone, unsafe.Pointer(&id)); err != nil {
		unix.Close(c)
		return -1, err
	}
	return c, nil
}

// SyncInit makes the mount of fd wait until INIT was answered, by a thread
// that reads fd meanwhile. Kernels before 6.18 give ENOTTY.
func SyncInit(fd int) error { return ioctl(fd, fuseDevSyncInit, nil) }

// BackingOpen registers file with the session of fd and returns its backing
// id. It needs CAP_SYS_ADMIN in the initial user namespace.
func BackingOpen(fd, file int, flags uint32) (int32, error) {
	m := struct {
		fd      int32
		flags   uint32
		padding uint64
	}{fd: int32(file), flags: flags}
	id, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), fuseDevBackingOpen, uintptr(unsafe.Pointer(&m)))
	if errno != 0 {
		return 0, errno
	}
	return int32(id), nil
}

// BackingClose frees a backing id.
func BackingClose(fd int, id int32) error {
	return ioctl(fd, fuseDevBackingClose, unsafe.Pointer(&id))
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	_, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// Read is read(2). Unlike unix.Read it allocates nothing for an error and is
// not instrumented by the race detector, which cannot know what a kernel
// wrote. A signal gives EINTR.
func Read(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// Write is write(2), in the manner of [Read].
func Write(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// RawWrite is [Write] behind the scheduler's back: for writes that do not
// sleep and are short, such as a small answer to a FUSE request.
func RawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}
