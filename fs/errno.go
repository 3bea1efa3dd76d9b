package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// OK is the errno of success.
var OK = syscall.Errno(0)

// RENAME_EXCHANGE is the flag of [NodeRenamer] by which two names swap their
// inodes: renameat2(2).
const RENAME_EXCHANGE = 0x2

// RENAME_NOREPLACE is the flag of [NodeRenamer] that forbids replacing the
// new name: renameat2(2). The kernel has looked before it asks, the file
// system behind may know more.
const RENAME_NOREPLACE = 0x1

const (
	seekData = 3 // lseek(2)
	seekHole = 4
)

// ToErrno finds the errno in a chain of wrapped errors. An error without one
// is ENOSYS as in [fuse.ToStatus]; nil is [OK].
func ToErrno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return syscall.Errno(fuse.ToStatus(err))
}
