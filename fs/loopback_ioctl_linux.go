package fs

import (
	"context"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// forwarded are the ioctls that a loopback passes on. It has its own rights,
// often root's, and not those of the caller, who need not even be able to
// write the file: so these are only what the kernel checks before it asks a
// FUSE server (vfs_fileattr_set: the owner, CAP_LINUX_IMMUTABLE), or what
// reads. All others, which could shut the file system below down, or give
// this process an address to write to, end in ENOTTY.
var forwarded = []uint32{
	unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS, // chattr(1)
	0x801c581f, 0x401c5820, // FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
	unix.FS_IOC_MEASURE_VERITY,
}

// Ioctl forwards the ioctls for the attributes of chattr(1), project ids and
// reading fs-verity digests. Others: ENOTTY.
func (f *LoopbackFile) Ioctl(ctx context.Context, cmd uint32, arg uint64, input []byte, output []byte) (result int32, errno syscall.Errno) {
	errno = f.withFD(func(fd int) (errno syscall.Errno) {
		result, errno = callIoctl(fd, cmd, input, output)
		return errno
	})
	return result, errno
}

// Ioctl is [LoopbackFile.Ioctl] of a directory.
func (d *loopbackDir) Ioctl(ctx context.Context, cmd uint32, arg uint64, input []byte, output []byte) (result int32, errno syscall.Errno) {
	errno = d.withFD(func(fd int) (errno syscall.Errno) {
		result, errno = callIoctl(fd, cmd, input, output)
		return errno
	})
	return result, errno
}

// callIoctl calls one of forwarded with a buffer that is as long as the
// command says, never with an address of the caller's.
func callIoctl(fd int, cmd uint32, input, output []byte) (int32, syscall.Errno) {
	if !slices.Contains(forwarded, cmd) {
		return 0, syscall.ENOTTY
	}
	buf := ioctlBuffer(cmd, input, output)
	r, errno := sys.Ioctl(fd, cmd, 0, buf)
	copy(output, buf)
	return int32(r), errno
}

// verityDigest is the most that FS_IOC_MEASURE_VERITY writes behind the
// structure whose length is in its number (FS_VERITY_MAX_DIGEST_SIZE).
const verityDigest = 64

// ioctlBuffer returns input with room for all that cmd may write. Before Linux
// 6.9 the kernel gives us only the head of a digest, in which the caller says
// how long it may be.
func ioctlBuffer(cmd uint32, input, output []byte) []byte {
	size := int(cmd >> 16 & 0x3fff) // FS_IOC_GETFLAGS and its like say long and mean int
	if cmd == unix.FS_IOC_MEASURE_VERITY {
		size += verityDigest
	}
	buf := make([]byte, max(size, len(input), len(output)))
	copy(buf, input)
	return buf
}
