//go:build !linux

package fs

import (
	"os"
	"syscall"
)

// dirDescriptor and the others have nothing to keep where there is no loopback.
type (
	dirDescriptor struct{}
	loopbackState struct{}
	lockOwners    struct{}
	lastOpen      struct{}
)

// NewLoopbackRoot gives an error: a loopback is not supported on this system,
// because it is built on openat2(2) and descriptors of Linux.
func NewLoopbackRoot(rootPath string) (InodeEmbedder, error) {
	return nil, &os.PathError{Op: "loopback", Path: rootPath, Err: syscall.ENOTSUP}
}

// NewLoopbackDirStream gives ENOTSUP on this system.
func NewLoopbackDirStream(name string) (DirStream, syscall.Errno) { return nil, syscall.ENOTSUP }

// NewLoopbackDirStreamFd gives ENOTSUP on this system, and leaves fd open.
func NewLoopbackDirStreamFd(fd int) (DirStream, syscall.Errno) { return nil, syscall.ENOTSUP }
