package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// DropSetID takes the set-id bits from the regular file that fd, which may be
// an O_PATH one, stands for, as a write by process pid of the group gid does;
// fd itself is about to be written to by this process. Other files it leaves
// alone.
func DropSetID(fd int, gid, pid uint32) syscall.Errno {
	var st unix.Statx_t
	if errno := StatAt(fd, "", unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_GID, &st); errno != 0 {
		return errno
	}
	mode := uint32(st.Mode)
	if mode&syscall.S_IFMT != syscall.S_IFREG || mode&(syscall.S_ISUID|syscall.S_ISGID) == 0 {
		return 0
	}
	less := WithoutSetID(mode, st.Gid, gid, pid)
	if less == mode {
		return 0
	}
	errno := ChmodFD(fd, less&07777)
	if errno == syscall.EPERM && !keepsSetID() {
		// It is somebody else's file. The kernel takes the bits from it all
		// the same, at the write of this process.
		return 0
	}
	return errno
}
