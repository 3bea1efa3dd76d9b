package sys

import (
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions of this file act on one name in an open directory, or, with
// the name "", on what a descriptor stands for. Unlike those of x/sys they
// don't allocate. A name is not resolved any further: symbolic links are never
// followed, and a name with a slash is EINVAL, so nothing outside of the
// directory can be reached.

// name is room for a file name and its NUL.
type name [256]byte

// set checks s and copies it.
func (n *name) set(s string) syscall.Errno {
	if len(s) >= len(n) {
		return syscall.ENAMETOOLONG
	}
	for i := range len(s) {
		if s[i] == 0 || s[i] == '/' {
			return syscall.EINVAL
		}
	}
	if s == ".." {
		return syscall.EINVAL
	}
	n[copy(n[:], s)] = 0
	return 0
}

// OpenAt opens, and with O_CREAT makes, a name in the directory dir. "." is
// the directory itself. The descriptor is close-on-exec. A symbolic link is
// opened with O_PATH, and with all other flags an error.
//
// One name that is not followed cannot lead out of dir, so this does without
// the RESOLVE_BENEATH of openat2(2), which would cost a sixth more.
func OpenAt(dir int, s string, flags int, mode uint32) (int, syscall.Errno) {
	var n name
	if errno := n.set(s); errno != 0 {
		return -1, errno
	}
	flags |= unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NOFOLLOW
	for {
		fd, _, errno := syscall.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(flags), uintptr(mode&07777), 0, 0)
		switch errno {
		case 0:
			return int(fd), 0
		case syscall.EINTR:
			continue
		}
		return -1, errno
	}
}

// StatAt puts the attributes of a name in dir, or of dir itself for "", into
// st.
func StatAt(dir int, s string, mask int, st *unix.Statx_t) syscall.Errno {
	var n name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	return statAt(dir, &n, mask, st)
}

// StatEntryAt is StatAt for a name in a list of entries, which must end with
// a NUL.
func StatEntryAt(dir int, s []byte, mask int, st *unix.Statx_t) syscall.Errno {
	_, _, errno := syscall.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(s))), unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, uintptr(mask), uintptr(unsafe.Pointer(st)), 0)
	return errno
}

func statAt(dir int, n *name, mask int, st *unix.Statx_t) syscall.Errno {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if n[0] == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	_, _, errno := syscall.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(n)), uintptr(flags), uintptr(mask), uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// MkdirAt makes a directory.
func MkdirAt(dir int, s string, mode uint32) syscall.Errno {
	var n name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(mode))
	return errno
}

// MknodAt makes a file of the type in mode.
func MknodAt(dir int, s string, mode uint32, dev uint64) syscall.Errno {
	var n name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall6(unix.SYS_MKNODAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(mode), uintptr(dev), 0, 0)
	return errno
}

// UnlinkAt removes a name; flags may be AT_REMOVEDIR.
func UnlinkAt(dir int, s string, flags int) syscall.Errno {
	var n name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(flags))
	return errno
}

// RenameAt is renameat2(2).
func RenameAt(dir int, s string, dir2 int, s2 string, flags uint32) syscall.Errno {
	var n, n2 name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	if errno := n2.set(s2); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall6(unix.SYS_RENAMEAT2, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(dir2), uintptr(unsafe.Pointer(&n2)), uintptr(flags), 0)
	return errno
}

// LinkFD gives the file behind fd a name in dir.
func LinkFD(fd, dir int, s string) syscall.Errno {
	var n name
	var p procPath
	if errno := n.set(s); errno != 0 {
		return errno
	}
	p.set(fd)
	at := unix.AT_FDCWD
	_, _, errno := syscall.Syscall6(unix.SYS_LINKAT, uintptr(at), uintptr(unsafe.Pointer(&p)), uintptr(dir), uintptr(unsafe.Pointer(&n)), unix.AT_SYMLINK_FOLLOW, 0)
	return errno
}

// ReadlinkAt reads the target of a symbolic link into buf.
func ReadlinkAt(dir int, s string, buf []byte) (int, syscall.Errno) {
	var n name
	if errno := n.set(s); errno != 0 {
		return 0, errno
	}
	r, _, errno := syscall.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0)
	return int(r), errno
}

// ChownAt sets the owner of a name in dir, or of dir itself for "". -1 leaves
// one as it is.
func ChownAt(dir int, s string, uid, gid int) syscall.Errno {
	var n name
	if errno := n.set(s); errno != 0 {
		return errno
	}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if s == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	_, _, errno := syscall.Syscall6(unix.SYS_FCHOWNAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), uintptr(uid), uintptr(gid), uintptr(flags), 0)
	return errno
}

// ChownFD sets the owner of what fd, which may be an O_PATH one, stands for.
// -1 leaves one as it is.
func ChownFD(fd, uid, gid int) syscall.Errno {
	_, _, errno := syscall.Syscall(unix.SYS_FCHOWN, uintptr(fd), uintptr(uid), uintptr(gid))
	if errno != syscall.EBADF {
		return errno
	}
	return ChownAt(fd, "", uid, gid)
}

// UtimesFD sets access and modification time of what fd, which may be an
// O_PATH one, stands for.
func UtimesFD(fd int, ts *[2]unix.Timespec) syscall.Errno {
	_, _, errno := syscall.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if errno != syscall.EBADF {
		return errno
	}
	var empty [1]byte
	_, _, errno = syscall.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(ts)), unix.AT_EMPTY_PATH, 0, 0)
	if errno != syscall.EINVAL && errno != syscall.ENOENT {
		return errno
	}
	var p procPath // before Linux 5.8
	p.set(fd)
	at := unix.AT_FDCWD
	_, _, errno = syscall.Syscall6(unix.SYS_UTIMENSAT, uintptr(at), uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	return errno
}

// procPath is room for the path of a descriptor in /proc, by which calls that
// take no O_PATH descriptor reach what it stands for. It costs several times
// the call itself, so the functions below give the descriptor a try first.
type procPath [32]byte

func (p *procPath) set(fd int) {
	b := append(p[:0], "/proc/self/fd/"...)
	b = strconv.AppendInt(b, int64(fd), 10)
	p[len(b)] = 0
}

// ChmodFD sets the permission bits of what fd, which may be an O_PATH one,
// stands for.
func ChmodFD(fd int, mode uint32) syscall.Errno {
	_, _, errno := syscall.Syscall(unix.SYS_FCHMOD, uintptr(fd), uintptr(mode), 0)
	if errno != syscall.EBADF {
		return errno
	}
	var empty [1]byte
	_, _, errno = syscall.Syscall6(unix.SYS_FCHMODAT2, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(mode), unix.AT_EMPTY_PATH, 0, 0)
	if errno != syscall.ENOSYS && errno != syscall.EPERM {
		return errno
	}
	var p procPath // before Linux 6.6, or a sandbox that does not know the call
	p.set(fd)
	at := unix.AT_FDCWD
	_, _, errno = syscall.Syscall(unix.SYS_FCHMODAT, uintptr(at), uintptr(unsafe.Pointer(&p)), uintptr(mode))
	return errno
}

// TruncateFD sets the size of the file that fd, which may be an O_PATH one,
// stands for.
func TruncateFD(fd int, size int64) syscall.Errno {
	var p procPath
	p.set(fd)
	_, _, errno := syscall.Syscall(unix.SYS_TRUNCATE, uintptr(unsafe.Pointer(&p)), uintptr(size), 0)
	return errno
}

// GetxattrFD reads an extended attribute of what fd, which may be an O_PATH
// one, stands for. An empty dest asks for the size.
func GetxattrFD(fd int, attr string, dest []byte) (int, syscall.Errno) {
	var n name
	if errno := n.setAny(attr); errno != 0 {
		return 0, errno
	}
	r, _, errno := syscall.Syscall6(unix.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)), 0, 0)
	if errno != syscall.EBADF {
		return int(r), errno
	}
	var p procPath
	p.set(fd)
	r, _, errno = syscall.Syscall6(unix.SYS_GETXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)), 0, 0)
	return int(r), errno
}

// xattrArgs is struct xattr_args of getxattrat(2) on processors of 64 bits.
type xattrArgs struct {
	value       unsafe.Pointer
	size, flags uint32
}

// GetxattrAt is GetxattrFD for a name in dir, which need not be opened for it.
// The call is younger than others, Linux 6.13: ENOSYS comes without it, or
// EPERM from a sandbox that does not know it.
func GetxattrAt(dir int, s, attr string, dest []byte) (int, syscall.Errno) {
	var n, a name
	if errno := n.set(s); errno != 0 {
		return 0, errno
	}
	if errno := a.setAny(attr); errno != 0 {
		return 0, errno
	}
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return 0, syscall.ENOSYS
	}
	args := xattrArgs{value: unsafe.Pointer(unsafe.SliceData(dest)), size: uint32(len(dest))}
	r, _, errno := syscall.Syscall6(unix.SYS_GETXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(&n)), unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	return int(r), errno
}

// SetxattrFD sets an extended attribute.
func SetxattrFD(fd int, attr string, data []byte, flags int) syscall.Errno {
	var n name
	if errno := n.setAny(attr); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall6(unix.SYS_FSETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)), uintptr(flags), 0)
	if errno != syscall.EBADF {
		return errno
	}
	var p procPath
	p.set(fd)
	_, _, errno = syscall.Syscall6(unix.SYS_SETXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)), uintptr(flags), 0)
	return errno
}

// RemovexattrFD removes an extended attribute.
func RemovexattrFD(fd int, attr string) syscall.Errno {
	var n name
	if errno := n.setAny(attr); errno != 0 {
		return errno
	}
	_, _, errno := syscall.Syscall(unix.SYS_FREMOVEXATTR, uintptr(fd), uintptr(unsafe.Pointer(&n)), 0)
	if errno != syscall.EBADF {
		return errno
	}
	var p procPath
	p.set(fd)
	_, _, errno = syscall.Syscall(unix.SYS_REMOVEXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(&n)), 0)
	return errno
}

// ListxattrFD lists the names of the extended attributes into dest, each with
// a NUL behind it.
func ListxattrFD(fd int, dest []byte) (int, syscall.Errno) {
	r, _, errno := syscall.Syscall(unix.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)))
	if errno != syscall.EBADF {
		return int(r), errno
	}
	var p procPath
	p.set(fd)
	r, _, errno = syscall.Syscall(unix.SYS_LISTXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)))
	return int(r), errno
}

// setAny is set for the name of an attribute, which may have slashes.
func (n *name) setAny(s string) syscall.Errno {
	if len(s) >= len(n) {
		return syscall.ERANGE
	}
	n[copy(n[:], s)] = 0
	return 0
}

// Getdents fills buf with entries of the open directory fd: struct
// linux_dirent64.
func Getdents(fd int, buf []byte) (int, syscall.Errno) {
	r, _, errno := syscall.Syscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	return int(r), errno
}

// Ioctl calls ioctl(2) with a buffer, or with the value arg if buf is empty.
func Ioctl(fd int, cmd uint32, arg uintptr, buf []byte) (int, syscall.Errno) {
	if len(buf) > 0 {
		r, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(cmd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))))
		return int(r), errno
	}
	r, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(cmd), arg)
	return int(r), errno
}

// ReopenFD opens what fd stands for once more, with other flags.
func ReopenFD(fd, flags int) (int, syscall.Errno) {
	var p procPath
	p.set(fd)
	at := unix.AT_FDCWD
	r, _, errno := syscall.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&p)), uintptr(flags|unix.O_CLOEXEC|unix.O_NOCTTY), 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), 0
}
