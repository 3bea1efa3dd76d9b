package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// adopt makes what was just made in the open directory dir the caller's: it
// gets the owner and permissions that it would have without this process in
// between. fd may be an O_PATH descriptor; st gets the attributes.
func (f *FS) adopt(h *fuse.InHeader, dir, fd int, mode uint32, st *unix.Statx_t) syscall.Errno {
	if errno := sys.StatAt(fd, "", statMask, st); errno != 0 {
		return errno
	}
	uid, okUID := f.opts.UIDs.below(h.Uid)
	gid, okGID := f.opts.GIDs.below(h.Gid)
	if !okUID || !okGID {
		return syscall.EOVERFLOW // as the kernel answers where an id has no meaning
	}
	if gid != st.Gid {
		var up unix.Statx_t
		if errno := sys.StatAt(dir, "", unix.STATX_MODE, &up); errno != 0 {
			return errno
		}
		if up.Mode&syscall.S_ISGID != 0 {
			gid = st.Gid // that of the directory
		}
	}
	chown := uid != st.Uid || gid != st.Gid
	if chown {
		if errno := sys.ChownAt(fd, "", int(uid), int(gid)); errno != 0 && (errno != syscall.EPERM || unix.Geteuid() == 0) {
			return errno
		}
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return sys.StatAt(fd, "", statMask, st)
	}
	want := uint32(st.Mode) & 07777
	if want&0777 != mode&0777 && !hasDefaultACL(dir) { // the umask of this process
		want = want&^0777 | mode&0777
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		want |= mode & (syscall.S_ISUID | syscall.S_ISGID)
	}
	if want != uint32(st.Mode)&07777 || chown && want&(syscall.S_ISUID|syscall.S_ISGID) != 0 {
		if errno := sys.ChmodFD(fd, want); errno != 0 {
			return errno
		}
		chown = true
	}
	if chown {
		return sys.StatAt(fd, "", statMask, st)
	}
	return 0
}

// hasDefaultACL reports whether an ACL of the directory, not a umask, decides
// on the permissions of what is made in it.
func hasDefaultACL(dir int) bool {
	size, errno := sys.GetxattrFD(dir, "system.posix_acl_default", nil)
	return errno == 0 && size > 0
}

// make makes something by mk, gives it to the caller and the kernel a
// reference. What a predecessor made for this request is taken as it is.
func (f *FS) make(h *fuse.InHeader, name string, mode uint32, out *fuse.EntryOut, mk func(dir int) syscall.Errno) fuse.Status {
	return fuse.Status(f.with(h.NodeId, func(_ *node, dir int) syscall.Errno {
		if errno := mk(dir); errno != 0 && (errno != syscall.EEXIST || !f.resent(h)) {
			return errno
		}
		fd, errno := sys.OpenAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if errno != 0 {
			return errno
		}
		defer unix.Close(fd)
		var st unix.Statx_t
		errno = f.adopt(h, dir, fd, mode, &st)
		if errno == 0 {
			var n *node
			if n, errno = f.refer(dir, name, &st); errno == 0 {
				f.entry(n, &st, out)
				return 0
			}
		}
		flags := 0
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			flags = unix.AT_REMOVEDIR
		}
		sys.UnlinkAt(dir, name, flags)
		return errno
	}))
}

// Mknod makes a file that is not a directory.
func (f *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, name, in.Mode, out, func(dir int) syscall.Errno {
		return sys.MknodAt(dir, name, in.Mode, uint64(in.Rdev))
	})
}

// Mkdir makes a directory.
func (f *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, name, in.Mode&07777|syscall.S_IFDIR, out, func(dir int) syscall.Errno {
		return sys.MkdirAt(dir, name, in.Mode)
	})
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(h, name, syscall.S_IFLNK|0777, out, func(dir int) syscall.Errno {
		return errnoOf(unix.Symlinkat(target, dir, name))
	})
}

// Link gives a file one more name.
func (f *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return fuse.Status(f.with(in.NodeId, func(_ *node, dir int) syscall.Errno {
		return f.with(in.Oldnodeid, func(n *node, fd int) syscall.Errno {
			errno := sys.LinkFD(fd, dir, name)
			var st unix.Statx_t
			if errno == syscall.EEXIST && f.resent(&in.InHeader) &&
				sys.StatAt(dir, name, statMask, &st) == 0 && identityOf(&st) == n.key {
				errno = 0
			}
			if errno != 0 {
				return errno
			}
			return f.lookup(dir, name, out)
		})
	}))
}

// Unlink removes a name.
func (f *FS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h, name, 0)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h, name, unix.AT_REMOVEDIR)
}

func (f *FS) remove(h *fuse.InHeader, name string, flags int) fuse.Status {
	return fuse.Status(f.with(h.NodeId, func(_ *node, dir int) syscall.Errno {
		if flags == 0 {
			f.losing(dir, name)
		}
		errno := sys.UnlinkAt(dir, name, flags)
		if errno == syscall.ENOENT && f.resent(h) {
			errno = 0 // the kernel had the name: a predecessor removed it
		}
		return errno
	}))
}

// losing is told that a name will be another's, or nobody's.
func (f *FS) losing(dir int, name string) {
	var st unix.Statx_t
	if f.open.Load() <= 0 || f.opts.Table == "" {
		return
	}
	if sys.StatAt(dir, name, statMask, &st) != 0 || st.Nlink != 1 || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return
	}
	sh := f.shard(identityOf(&st))
	sh.mu.Lock()
	n := sh.known[identityOf(&st)]
	sh.mu.Unlock()
	if n != nil {
		f.keepUnnamed(n)
	}
}

// Rename moves a name.
func (f *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return fuse.Status(f.with(in.NodeId, func(_ *node, dir int) syscall.Errno {
		return f.with(in.Newdir, func(_ *node, dir2 int) syscall.Errno {
			if in.Flags&unix.RENAME_EXCHANGE != 0 {
				return f.exchange(in, dir, oldName, dir2, newName)
			}
			f.losing(dir2, newName)
			errno := sys.RenameAt(dir, oldName, dir2, newName, in.Flags)
			if errno == syscall.ENOENT && f.resent(&in.InHeader) {
				var st unix.Statx_t
				errno = sys.StatAt(dir2, newName, unix.STATX_INO, &st)
			}
			return errno
		})
	}))
}

// exchange swaps two names. Twice would be not at all, so what a predecessor
// was about to swap is noted in the table.
func (f *FS) exchange(in *fuse.RenameIn, dir int, oldName string, dir2 int, newName string) syscall.Errno {
	var st unix.Statx_t
	if errno := sys.StatAt(dir, oldName, statMask, &st); errno != 0 {
		return errno
	}
	note := f.table.note(in.Unique)
	note.mu.Lock()
	defer note.mu.Unlock()
	if f.resent(&in.InHeader) && note.is(in.Unique) && note.at.key != identityOf(&st) {
		return 0
	}
	note.set(in.Unique, identityOf(&st))
	return sys.RenameAt(dir, oldName, dir2, newName, in.Flags)
}

// Create makes and opens a file.
func (f *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return fuse.Status(f.with(in.NodeId, func(_ *node, dir int) syscall.Errno {
		var st unix.Statx_t
		fd, errno := sys.OpenAt(dir, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CREAT|unix.O_EXCL, in.Mode)
		made := errno == 0
		if errno == syscall.EEXIST && (in.Flags&unix.O_EXCL == 0 || f.resent(&in.InHeader)) {
			fd, errno = sys.OpenAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		}
		if errno != 0 {
			return errno
		}
		defer func() {
			if fd >= 0 {
				unix.Close(fd)
			}
		}()
		if made || f.resent(&in.InHeader) {
			errno = f.adopt(&in.InHeader, dir, fd, in.Mode, &st)
		} else {
			errno = sys.StatAt(fd, "", statMask, &st)
		}
		if errno != 0 {
			return errno
		}
		n, errno := f.referOpen(fd, dir, name, &st)
		if errno != 0 {
			return errno
		}
		n.mu.Lock()
		if !made && in.Flags&unix.O_TRUNC != 0 {
			errno = f.truncateBy(n, 0, in.OpenFlags&fuse.OPEN_KILL_SUIDGID != 0, &in.Caller)
		}
		if made && n.wr.Set(fd) { // though the mode may let nobody write
			n.wr.Put()
			fd = -1
		}
		if errno == 0 {
			errno = f.opened(n, in.Flags, &out.OpenOut)
		}
		n.mu.Unlock()
		if errno != 0 {
			f.unrefer(n, 1)
			return errno
		}
		f.entry(n, &st, &out.EntryOut)
		return 0
	}))
}

// Tmpfile makes and opens a file without a name.
func (f *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return fuse.Status(f.with(in.NodeId, func(_ *node, dir int) syscall.Errno {
		flags := unix.O_RDWR | unix.O_TMPFILE | int(in.Flags)&unix.O_EXCL
		fd, errno := sys.OpenAt(dir, ".", flags, in.Mode)
		if errno != 0 {
			return errno
		}
		var st unix.Statx_t
		if errno := f.adopt(&in.InHeader, dir, fd, in.Mode, &st); errno != 0 {
			unix.Close(fd)
			return errno
		}
		n := &node{}
		n.setFD(fd) // keeps the file
		var h sys.Handle
		if f.handles {
			sys.HandleAt(fd, "", &h)
		}
		n, errno = f.add(n, &h, &st)
		if errno != 0 {
			return errno
		}
		n.mu.Lock()
		errno = f.opened(n, in.Flags, &out.OpenOut)
		n.mu.Unlock()
		if errno != 0 {
			f.unrefer(n, 1)
			return errno
		}
		f.keepUnnamed(n)
		f.entry(n, &st, &out.EntryOut)
		return 0
	}))
}
