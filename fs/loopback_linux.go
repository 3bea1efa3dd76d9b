package fs

import (
	"context"
	"os"
	"strings"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
	"golang.org/x/sys/unix"
)

// NewLoopbackRoot returns the root of a file system that shows the directory
// rootPath.
func NewLoopbackRoot(rootPath string) (InodeEmbedder, error) {
	var st unix.Stat_t
	if err := unix.Stat(rootPath, &st); err != nil {
		return nil, &os.PathError{Op: "loopback", Path: rootPath, Err: err}
	}
	r := &LoopbackRoot{Path: rootPath, Dev: uint64(st.Dev)}
	if _, errno := r.rootFD(); errno != 0 {
		return nil, &os.PathError{Op: "loopback", Path: rootPath, Err: errno}
	}
	n := &LoopbackNode{RootData: r}
	r.RootNode = n
	return n, nil
}

// OnForget closes what the node keeps open.
func (n *LoopbackNode) OnForget() {
	if n.isRoot() {
		n.RootData.closeRoot()
		return
	}
	n.dirFD.Drop()
}

// found returns the inode of a file that was found or made under a name: the
// child that is known, or a new one.
func (n *LoopbackNode) found(ctx context.Context, name string, st *unix.Statx_t, out *fuse.EntryOut) *Inode {
	out.Attr.FromStatx(st)
	r := n.RootData
	id := r.identity(st)
	if r.NewNode == nil {
		if ch := n.embed().GetChild(name); ch != nil && ch.StableAttr() == id {
			return ch
		}
		return n.embed().NewInode(ctx, &LoopbackNode{RootData: r}, id)
	}
	var sst syscall.Stat_t
	statFromStatx(&sst, st)
	return n.embed().NewInode(ctx, r.NewNode(r, n.embed(), name, &sst), id)
}

// Lookup finds a name in the directory below.
func (n *LoopbackNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	dir, errno := n.useDir()
	if errno != 0 {
		return nil, errno
	}
	defer n.doneDir()
	n.last.Looked()
	var st unix.Statx_t
	if errno := sys.StatAt(dir, name, statMask, &st); errno != 0 {
		return nil, errno
	}
	ch := n.found(ctx, name, &st, out)
	ch.told.Store(ch.bridge.milliseconds())
	return ch, 0
}

// Getattr gives the attributes of the file below.
func (n *LoopbackNode) Getattr(ctx context.Context, f FileHandle, out *fuse.AttrOut) syscall.Errno {
	if g, ok := f.(FileGetattrer); ok {
		return g.Getattr(ctx, out)
	}
	var st unix.Statx_t
	if errno := n.stat(unix.STATX_BASIC_STATS, &st); errno != 0 {
		return errno
	}
	out.Attr.FromStatx(&st)
	return 0
}

// Statx gives the attributes that mask asks for.
func (n *LoopbackNode) Statx(ctx context.Context, f FileHandle, flags uint32, mask uint32, out *fuse.StatxOut) syscall.Errno {
	if s, ok := f.(FileStatxer); ok {
		return s.Statx(ctx, flags, mask, out)
	}
	var st unix.Statx_t
	if errno := n.stat(int(mask), &st); errno != 0 {
		return errno
	}
	out.FromStatx(&st)
	return 0
}

// Setattr changes attributes of the file below.
func (n *LoopbackNode) Setattr(ctx context.Context, f FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if s, ok := f.(FileSetattrer); ok {
		return s.Setattr(ctx, in, out)
	}
	return n.withFD(func(fd int) syscall.Errno {
		if errno := setattr(fd, n.Mode() == syscall.S_IFLNK, in); errno != 0 {
			return errno
		}
		var st unix.Statx_t
		if errno := sys.StatAt(fd, "", unix.STATX_BASIC_STATS, &st); errno != 0 {
			return errno
		}
		out.Attr.FromStatx(&st)
		return 0
	})
}

// setattr makes the changes of in to what fd, perhaps an O_PATH descriptor,
// stands for.
func setattr(fd int, symlink bool, in *fuse.SetAttrIn) syscall.Errno {
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if setUID || setGID {
		u, g := -1, -1
		if setUID {
			u = int(uid)
		}
		if setGID {
			g = int(gid)
		}
		if errno := sys.ChownFD(fd, u, g); errno != 0 {
			return errno
		}
	}
	if mode, ok := in.GetMode(); ok { // behind chown, which clears set-id bits
		if symlink {
			return syscall.EOPNOTSUPP
		}
		if errno := sys.ChmodFD(fd, mode&07777); errno != 0 {
			return errno
		}
	}
	if size, ok := in.GetSize(); ok {
		if errno := truncate(fd, int64(size)); errno != 0 {
			return errno
		}
	}
	return setTimes(fd, in)
}

// truncate sets the size of the file that fd is open on.
func truncate(fd int, size int64) syscall.Errno {
	if err := unix.Ftruncate(fd, size); err == nil {
		return 0
	} else if err != unix.EBADF && err != unix.EINVAL {
		return ToErrno(err)
	}
	return sys.TruncateFD(fd, size) // O_PATH, or not open for writing
}

func setTimes(fd int, in *fuse.SetAttrIn) syscall.Errno {
	const times = fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME_NOW
	if in.Valid&times == 0 {
		return 0
	}
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	switch {
	case in.Valid&fuse.FATTR_ATIME_NOW != 0:
		ts[0].Nsec = unix.UTIME_NOW
	case in.Valid&fuse.FATTR_ATIME != 0:
		ts[0] = unix.Timespec{Sec: int64(in.Atime), Nsec: int64(in.Atimensec)}
	}
	switch {
	case in.Valid&fuse.FATTR_MTIME_NOW != 0:
		ts[1].Nsec = unix.UTIME_NOW
	case in.Valid&fuse.FATTR_MTIME != 0:
		ts[1] = unix.Timespec{Sec: int64(in.Mtime), Nsec: int64(in.Mtimensec)}
	}
	return sys.UtimesFD(fd, &ts)
}

// still reports with ESTALE that the name below is another file's by now.
func (n *LoopbackNode) still(dir int, name string) syscall.Errno {
	var st unix.Statx_t
	if errno := sys.StatAt(dir, name, statIdentity, &st); errno != 0 {
		return errno
	}
	if !n.is(&st) {
		return syscall.ESTALE
	}
	return 0
}

// Readlink reads the target of the symbolic link below.
func (n *LoopbackNode) Readlink(ctx context.Context) (target []byte, errno syscall.Errno) {
	errno = n.at(func(dir int, name string) syscall.Errno {
		var buf [4096]byte
		size, errno := sys.ReadlinkAt(dir, name, buf[:])
		if errno != 0 {
			return errno
		}
		if errno := n.still(dir, name); errno != 0 {
			return errno
		}
		target = append([]byte(nil), buf[:size]...)
		return 0
	})
	return target, errno
}

// Statfs gives the numbers of the file system below.
func (n *LoopbackNode) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	return n.withFD(func(fd int) syscall.Errno {
		var st syscall.Statfs_t
		if err := syscall.Fstatfs(fd, &st); err != nil {
			return ToErrno(err)
		}
		out.FromStatfsT(&st)
		return 0
	})
}

// Syncfs makes the whole file system below durable.
func (n *LoopbackNode) Syncfs(ctx context.Context) syscall.Errno {
	fd, errno := n.openPath(unix.O_RDONLY | unix.O_DIRECTORY)
	if errno != 0 {
		return errno
	}
	defer unix.Close(fd)
	return ToErrno(unix.Syncfs(fd))
}

// Getxattr reads an extended attribute of the file below.
func (n *LoopbackNode) Getxattr(ctx context.Context, attr string, dest []byte) (size uint32, errno syscall.Errno) {
	if n.Mode() == syscall.S_IFLNK && strings.HasPrefix(attr, "user.") {
		return 0, ENOATTR // links have none, so there is no need to look
	}
	size, errno = n.getxattr(attr, dest)
	if errno == syscall.ERANGE {
		size, _ = n.getxattr(attr, nil)
	}
	if errno == syscall.EOPNOTSUPP && strings.HasPrefix(attr, "system.posix_acl_") {
		// A kernel that asks for ACLs takes any other error for a reason to
		// refuse access.
		errno = ENOATTR
	}
	return size, errno
}

// getxattr reads an attribute by an open descriptor if there is one, else by
// name, or from the file opened for it.
func (n *LoopbackNode) getxattr(attr string, dest []byte) (size uint32, errno syscall.Errno) {
	if n.Mode() == syscall.S_IFREG && !n.isRoot() && !n.embed().isOpen() {
		size, errno = n.getxattrByName(attr, dest)
		if errno != syscall.ENOSYS && errno != syscall.EPERM && errno != syscall.ENOENT && errno != syscall.ESTALE {
			return size, errno
		}
	}
	errno = n.withFD(func(fd int) syscall.Errno {
		c, errno := sys.GetxattrFD(fd, attr, dest)
		size = uint32(max(c, 0))
		return errno
	})
	return size, errno
}

func (n *LoopbackNode) getxattrByName(attr string, dest []byte) (size uint32, errno syscall.Errno) {
	errno = n.at(func(dir int, name string) syscall.Errno {
		c, errno := sys.GetxattrAt(dir, name, attr, dest)
		if errno == syscall.ENOSYS || errno == syscall.EPERM {
			return errno
		}
		if errno := n.still(dir, name); errno != 0 {
			return errno
		}
		size = uint32(max(c, 0))
		return errno
	})
	return size, errno
}

// Setxattr sets an extended attribute of the file below.
func (n *LoopbackNode) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	return n.withFD(func(fd int) syscall.Errno { return sys.SetxattrFD(fd, attr, data, int(flags)) })
}

// Removexattr removes an extended attribute of the file below.
func (n *LoopbackNode) Removexattr(ctx context.Context, attr string) syscall.Errno {
	return n.withFD(func(fd int) syscall.Errno { return sys.RemovexattrFD(fd, attr) })
}

// Listxattr lists the extended attributes of the file below.
func (n *LoopbackNode) Listxattr(ctx context.Context, dest []byte) (size uint32, errno syscall.Errno) {
	errno = n.withFD(func(fd int) syscall.Errno {
		c, errno := sys.ListxattrFD(fd, dest)
		if errno == syscall.ERANGE {
			c, _ = sys.ListxattrFD(fd, nil)
		}
		size = uint32(max(c, 0))
		return errno
	})
	return size, errno
}

func statFromStatx(s *syscall.Stat_t, st *unix.Statx_t) {
	s.Dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	s.Ino, s.Mode, s.Uid, s.Gid = st.Ino, uint32(st.Mode), st.Uid, st.Gid
	setInt(&s.Nlink, st.Nlink)
	setInt(&s.Blksize, st.Blksize)
	s.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	s.Size, s.Blocks = int64(st.Size), int64(st.Blocks)
	s.Atim = syscall.Timespec{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}
	s.Mtim = syscall.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}
	s.Ctim = syscall.Timespec{Sec: st.Ctime.Sec, Nsec: int64(st.Ctime.Nsec)}
}

// setInt is for fields whose type depends on the processor.
func setInt[T ~int32 | ~uint32 | ~int64 | ~uint64](dst *T, v uint32) { *dst = T(v) }
