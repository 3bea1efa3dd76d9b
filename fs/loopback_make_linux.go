package fs

import (
	"context"
	"os"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
	"golang.org/x/sys/unix"
)

// asRoot is whether files can be given to the callers that make them.
var asRoot = os.Geteuid() == 0

// adopt makes what was just made with mode the caller's: it gets the owner
// and the permissions that it would have got without this process in
// between. fd may be an O_PATH descriptor. st gets the attributes.
func (n *LoopbackNode) adopt(ctx context.Context, dir, fd int, mode uint32, st *unix.Statx_t) syscall.Errno {
	if errno := sys.StatAt(fd, "", statMask, st); errno != 0 {
		return errno
	}
	changed := false
	if c, ok := fuse.FromContext(ctx); ok && asRoot && (c.Uid != st.Uid || c.Gid != st.Gid) {
		gid := int(c.Gid)
		if n.inheritsGroup(dir) {
			gid = -1
		}
		if errno := sys.ChownFD(fd, int(c.Uid), gid); errno != 0 {
			return errno
		}
		changed = true
	}
	const setID = syscall.S_ISUID | syscall.S_ISGID
	isLink := st.Mode&syscall.S_IFMT == syscall.S_IFLNK
	want := mode & 07777
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		want |= uint32(st.Mode) & syscall.S_ISGID // inherited
	}
	lost := uint32(st.Mode)&0777 == want&0777&^n.RootData.open.umask && want&n.RootData.open.umask != 0
	if !isLink && (changed && want&setID != 0 || lost && !hasDefaultACL(dir)) {
		if !lost {
			want = uint32(st.Mode)&01777 | want&setID
		}
		if errno := sys.ChmodFD(fd, want); errno != 0 {
			return errno
		}
		changed = true
	}
	if changed {
		return sys.StatAt(fd, "", statMask, st)
	}
	return 0
}

// inheritsGroup reports whether what is made in dir gets the group of dir.
func (n *LoopbackNode) inheritsGroup(dir int) bool {
	var st unix.Statx_t
	return sys.StatAt(dir, "", unix.STATX_MODE, &st) == 0 && st.Mode&syscall.S_ISGID != 0
}

// hasDefaultACL reports whether an ACL of the directory below, not the umask,
// decides on the permissions of what is made in it.
func (n *LoopbackNode) hasDefaultACL() bool {
	dir, errno := n.useDir()
	if errno != 0 {
		return false
	}
	defer n.doneDir()
	return hasDefaultACL(dir)
}

func hasDefaultACL(dir int) bool {
	size, errno := sys.GetxattrFD(dir, "system.posix_acl_default", nil)
	return errno == 0 && size > 0
}

// made finishes what mk made under a name: it is opened, given to the caller,
// and becomes an inode.
func (n *LoopbackNode) made(ctx context.Context, name string, mode uint32, out *fuse.EntryOut, mk func(dir int) syscall.Errno) (*Inode, syscall.Errno) {
	dir, errno := n.useDir()
	if errno != 0 {
		return nil, errno
	}
	defer n.doneDir()
	if errno := mk(dir); errno != 0 {
		return nil, errno
	}
	fd, errno := sys.OpenAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errno != 0 {
		return nil, errno
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if errno := n.adopt(ctx, dir, fd, mode, &st); errno != 0 {
		flags := 0
		if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			flags = unix.AT_REMOVEDIR
		}
		sys.UnlinkAt(dir, name, flags)
		return nil, errno
	}
	return n.found(ctx, name, &st, out), 0
}

// Mkdir makes a directory.
func (n *LoopbackNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	return n.made(ctx, name, mode, out, func(dir int) syscall.Errno { return sys.MkdirAt(dir, name, mode) })
}

// Mknod makes a file of the type in mode.
func (n *LoopbackNode) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	return n.made(ctx, name, mode, out, func(dir int) syscall.Errno { return sys.MknodAt(dir, name, mode, uint64(rdev)) })
}

// Symlink makes a symbolic link.
func (n *LoopbackNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	return n.made(ctx, name, 0777, out, func(dir int) syscall.Errno { return ToErrno(unix.Symlinkat(target, dir, name)) })
}

// sameRoot returns the node of e if it is of the same loopback as n.
func (n *LoopbackNode) sameRoot(e InodeEmbedder) (*LoopbackNode, bool) {
	l, ok := e.(loopbackEmbedder)
	if !ok || l.loopbackNode().RootData != n.RootData {
		return nil, false
	}
	return l.loopbackNode(), true
}

// Link gives target one more name. A file without any, from O_TMPFILE, gets
// its first.
func (n *LoopbackNode) Link(ctx context.Context, target InodeEmbedder, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	t, ok := n.sameRoot(target)
	if !ok {
		return nil, syscall.EXDEV
	}
	dir, errno := n.useDir()
	if errno != 0 {
		return nil, errno
	}
	defer n.doneDir()
	if errno := t.withFD(func(fd int) syscall.Errno { return sys.LinkFD(fd, dir, name) }); errno != 0 {
		return nil, errno
	}
	var st unix.Statx_t
	if errno := sys.StatAt(dir, name, statMask, &st); errno != 0 {
		return nil, errno
	}
	if t.is(&st) {
		out.Attr.FromStatx(&st)
		return t.embed(), 0
	}
	return n.found(ctx, name, &st, out), 0
}

// fileFlags are those flags of open(2) that the file below is opened with.
// The kernel gives the offset of what is appended itself, and truncates
// before it opens; O_NONBLOCK keeps a fifo that was put in the place of the
// file from holding up the server.
func fileFlags(flags uint32) int {
	const drop = syscall.O_APPEND | fuse.FMODE_EXEC | syscall.O_CREAT | syscall.O_EXCL | syscall.O_TRUNC | syscall.O_NOCTTY
	return int(flags)&^drop | unix.O_NOFOLLOW | unix.O_NONBLOCK
}

// Create makes and opens a file.
func (n *LoopbackNode) Create(ctx context.Context, name string, flags uint32, mode uint32, out *fuse.EntryOut) (inode *Inode, fh FileHandle, fuseFlags uint32, errno syscall.Errno) {
	dir, errno := n.useDir()
	if errno != 0 {
		return nil, nil, 0, errno
	}
	defer n.doneDir()
	how := fileFlags(flags)
	var st unix.Statx_t
	fd, errno := sys.OpenAt(dir, name, how|unix.O_CREAT|unix.O_EXCL, mode)
	switch {
	case errno == 0:
		errno = n.adopt(ctx, dir, fd, mode, &st)
	case errno == syscall.EEXIST && flags&unix.O_EXCL == 0: // made by somebody else meanwhile
		if fd, errno = sys.OpenAt(dir, name, how|int(flags)&unix.O_TRUNC, 0); errno != 0 {
			return nil, nil, 0, errno
		}
		errno = sys.StatAt(fd, "", statMask, &st)
	default:
		return nil, nil, 0, errno
	}
	if errno != 0 {
		unix.Close(fd)
		return nil, nil, 0, errno
	}
	ch := n.found(ctx, name, &st, out)
	return ch, handleOf(ch, fd), n.openFlags(), 0
}

// handleOf returns a handle on fd, which is open on the file of ch.
func handleOf(ch *Inode, fd int) FileHandle {
	if l, ok := ch.ops.(loopbackEmbedder); ok {
		return l.loopbackNode().newFile(fd)
	}
	return &LoopbackFile{fd: fd}
}

// Tmpfile makes and opens a file without a name.
func (n *LoopbackNode) Tmpfile(ctx context.Context, flags uint32, mode uint32, out *fuse.EntryOut) (*Inode, FileHandle, uint32, syscall.Errno) {
	dir, errno := n.useDir()
	if errno != 0 {
		return nil, nil, 0, errno
	}
	defer n.doneDir()
	how := fileFlags(flags)&^unix.O_NOFOLLOW | int(flags)&unix.O_EXCL | unix.O_TMPFILE
	fd, errno := sys.OpenAt(dir, ".", how, mode)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	var st unix.Statx_t
	if errno := n.adopt(ctx, dir, fd, mode, &st); errno != 0 {
		unix.Close(fd)
		return nil, nil, 0, errno
	}
	ch := n.found(ctx, "", &st, out)
	return ch, handleOf(ch, fd), n.openFlags(), 0
}

// Open opens the file below.
func (n *LoopbackNode) Open(ctx context.Context, flags uint32) (fh FileHandle, fuseFlags uint32, errno syscall.Errno) {
	var st unix.Statx_t
	fd, errno := n.openFile(fileFlags(flags), &st)
	if errno == syscall.ENOENT || errno == syscall.ESTALE {
		fd, errno = n.openUnnamed(fileFlags(flags), errno)
	}
	adds := errno == syscall.EPERM && flags&(unix.O_APPEND|unix.O_TRUNC) == unix.O_APPEND
	if adds { // the file may be append-only: chattr +a
		fd, errno = n.openFile(fileFlags(flags)|unix.O_APPEND, &st)
	}
	if errno != 0 {
		return nil, 0, errno
	}
	if flags&unix.O_TRUNC != 0 {
		if errno := truncate(fd, 0); errno != 0 {
			unix.Close(fd)
			return nil, 0, errno
		}
	}
	how := n.openFlags()
	if n.keepsFile(&st) {
		how |= fuse.FOPEN_KEEP_CACHE
	}
	f := n.newFile(fd)
	f.adds = adds
	return f, how, 0
}

// openUnnamed opens a file that has lost its name, which programs do through
// /proc/self/fd, by another open handle on it.
func (n *LoopbackNode) openUnnamed(flags int, errno syscall.Errno) (int, syscall.Errno) {
	fd := -1
	errno = n.withOpen(func(old int) (errno syscall.Errno) {
		fd, errno = reopen(old, flags)
		return errno
	}, errno)
	return fd, errno
}

// openFile is openPath with a first try that allocates nothing. If that
// succeeds out gets identity and times; otherwise it is left as it is.
func (n *LoopbackNode) openFile(flags int, out *unix.Statx_t) (int, syscall.Errno) {
	p, name := n.parentDir()
	if p == nil || n.isRoot() {
		return n.openPath(flags)
	}
	dir, errno := p.useDir()
	if errno != 0 {
		return -1, errno
	}
	fd, errno := sys.OpenAt(dir, name, flags, 0)
	p.doneDir()
	if errno == syscall.ENOENT {
		return n.openPath(flags)
	}
	if errno != 0 {
		return -1, errno
	}
	var st unix.Statx_t
	if errno = sys.StatAt(fd, "", statIdentity|unix.STATX_CTIME, &st); errno == 0 && n.is(&st) {
		*out = st
		return fd, 0
	}
	unix.Close(fd)
	return n.openPath(flags)
}

// openFlags are the FOPEN_ flags of files: on a local file system a close has
// nothing to tell, unless it ends locks.
func (n *LoopbackNode) openFlags() uint32 {
	if b := n.embed().bridge; n.RootData.open.local && b != nil && !b.options.EnableLocks {
		return fuse.FOPEN_NOFLUSH
	}
	return 0
}

// Unlink removes a name.
func (n *LoopbackNode) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.unlinkAt(name, 0)
}

// Rmdir removes an empty directory.
func (n *LoopbackNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.unlinkAt(name, unix.AT_REMOVEDIR)
}

func (n *LoopbackNode) unlinkAt(name string, flags int) syscall.Errno {
	dir, errno := n.useDir()
	if errno != 0 {
		return errno
	}
	defer n.doneDir()
	return sys.UnlinkAt(dir, name, flags)
}

// Rename moves a name within the loopback.
func (n *LoopbackNode) Rename(ctx context.Context, name string, newParent InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := n.sameRoot(newParent)
	if !ok {
		return syscall.EXDEV
	}
	dir, errno := n.useDir()
	if errno != 0 {
		return errno
	}
	defer n.doneDir()
	dir2, errno := to.useDir()
	if errno != 0 {
		return errno
	}
	defer to.doneDir()
	return sys.RenameAt(dir, name, dir2, newName, flags)
}
