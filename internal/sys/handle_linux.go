package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxHandle is how long a Handle can be, bytes. Those of the usual file
// systems have 8 to 24; the kernel allows 128.
const MaxHandle = 56

// Handle is a file handle of name_to_handle_at(2), struct file_handle: it
// finds a file again whatever its name is. The zero value is none.
type Handle struct {
	Size uint32 // bytes of Data in use
	Kind int32
	Data [MaxHandle]byte
}

// HandleAt puts the handle of a name in dir, or of dir itself for "", into h,
// and returns the id of the mount that it is of. EOVERFLOW means that the
// handle is too long.
func HandleAt(dir int, s string, h *Handle) (mountID int, errno syscall.Errno) {
	var n name
	if errno := n.set(s); errno != 0 {
		return 0, errno
	}
	flags := 0
	if n[0] == 0 {
		flags = unix.AT_EMPTY_PATH
	}
	h.Size = MaxHandle
	var id int32
	_, _, errno = syscall.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&id)), uintptr(flags), 0)
	if errno != 0 {
		h.Size = 0
	}
	return int(id), errno
}

// OpenHandle opens the file of h, close-on-exec; mount is an open file of its
// mount, not an O_PATH one. It takes CAP_DAC_READ_SEARCH; ESTALE means that the
// file is gone.
func OpenHandle(mount int, h *Handle, flags int) (int, syscall.Errno) {
	for {
		fd, _, errno := syscall.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mount), uintptr(unsafe.Pointer(h)), uintptr(flags|unix.O_CLOEXEC|unix.O_LARGEFILE))
		switch errno {
		case 0:
			return int(fd), 0
		case syscall.EINTR:
			continue
		}
		return -1, errno
	}
}
