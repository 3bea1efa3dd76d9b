package fuse

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
)

// Status is the result of an operation: 0, [OK], or an errno as the kernel
// numbers it. It is not an error; [ToStatus] makes one from an error, and
// syscall.Errno(s) the other way round.
type Status int32

// The statuses that file systems use most. Any other errno converts:
// Status(syscall.ENOSPC).
const (
	OK      = Status(0)
	EACCES  = Status(syscall.EACCES)
	EBUSY   = Status(syscall.EBUSY)
	EAGAIN  = Status(syscall.EAGAIN)
	EINTR   = Status(syscall.EINTR)
	EINVAL  = Status(syscall.EINVAL)
	EIO     = Status(syscall.EIO)
	ENOENT  = Status(syscall.ENOENT)
	ENOSYS  = Status(syscall.ENOSYS) // remembered by the kernel: it may never ask again
	ENOTDIR = Status(syscall.ENOTDIR)
	ENOTSUP = Status(syscall.ENOTSUP)
	EISDIR  = Status(syscall.EISDIR)
	EPERM   = Status(syscall.EPERM)
	ERANGE  = Status(syscall.ERANGE)
	EXDEV   = Status(syscall.EXDEV)
	EBADF   = Status(syscall.EBADF)
	ENODEV  = Status(syscall.ENODEV)
	EROFS   = Status(syscall.EROFS)
	ESTALE  = Status(syscall.ESTALE)
)

// String returns "OK", or the number and the system's text of the errno.
func (code Status) String() string {
	if code == OK {
		return "OK"
	}
	return strconv.Itoa(int(code)) + "=" + syscall.Errno(code).Error()
}

// Ok reports whether code is [OK].
func (code Status) Ok() bool { return code == OK }

// ToStatus finds the errno in err: nil is OK, a syscall.Errno or a Status
// counts wherever it is in err's chain, the sentinels of package os have
// their errno, a cancelled context is EINTR, one past its deadline ETIMEDOUT.
// What is left is EIO.
func ToStatus(err error) Status {
	switch e := err.(type) {
	case nil:
		return OK
	case syscall.Errno:
		return Status(e)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return Status(errno)
	}
	for _, s := range []struct {
		is error
		st Status
	}{
		{os.ErrPermission, EPERM},
		{os.ErrExist, Status(syscall.EEXIST)},
		{os.ErrNotExist, ENOENT},
		{os.ErrInvalid, EINVAL},
		{os.ErrClosed, EBADF},
		{context.Canceled, EINTR},
		{os.ErrDeadlineExceeded, Status(syscall.ETIMEDOUT)},
		{context.DeadlineExceeded, Status(syscall.ETIMEDOUT)},
		{errors.ErrUnsupported, ENOTSUP},
	} {
		if errors.Is(err, s.is) {
			return s.st
		}
	}
	return EIO
}
