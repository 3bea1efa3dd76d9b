package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// A file is read and written by its node: the descriptors rd and wr of a node
// serve all opens of it, and are opened when they are first needed, also in a
// successor. So the kernel's handles can all be 0.

// data returns a descriptor to read, or to write, the data of n, and what ends
// its use.
func (f *FS) data(n *node, write bool) (fd int, c *sys.CachedFD, errno syscall.Errno) {
	c = &n.rd
	if write {
		c = &n.wr
	}
	for {
		if fd := c.Use(); fd >= 0 {
			return fd, c, 0
		}
		flags := unix.O_RDONLY
		if write {
			flags = unix.O_WRONLY
		}
		fd, errno := f.openFile(n, flags)
		if errno != 0 {
			return -1, nil, errno
		}
		if c.Set(fd) {
			return fd, c, 0
		}
		unix.Close(fd)
	}
}

// withData calls do with such a descriptor.
func (f *FS) withData(id uint64, write bool, do func(fd int) syscall.Errno) syscall.Errno {
	n := f.node(id)
	if n == nil {
		return syscall.ESTALE
	}
	fd, c, errno := f.data(n, write)
	if errno != 0 {
		return errno
	}
	defer c.Put()
	return do(fd)
}

// Open opens a file.
func (f *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil {
		return stale
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.Flags&unix.O_TRUNC != 0 {
		if errno := f.truncateBy(n, 0, in.Mode&fuse.OPEN_KILL_SUIDGID != 0, &in.Caller); errno != 0 {
			return fuse.Status(errno)
		}
	}
	return fuse.Status(f.opened(n, in.Flags, out))
}

// opened counts an open of n, and says how its data is to be had. n.mu is held.
func (f *FS) opened(n *node, flags uint32, out *fuse.OpenOut) syscall.Errno {
	out.OpenFlags = f.openFlags()
	if !f.useBacking(n, out) && !f.newBacking(n, out) {
		if errno := f.openData(n, flags, out); errno != 0 {
			return errno
		}
	}
	n.rec.opens.Add(1)
	f.open.Add(1)
	return 0
}

// openData prepares for an open that goes through this process.
func (f *FS) openData(n *node, flags uint32, out *fuse.OpenOut) syscall.Errno {
	fd, c, errno := f.data(n, flags&unix.O_ACCMODE != unix.O_RDONLY)
	if errno != 0 {
		return errno
	}
	defer c.Put()
	reads := flags&unix.O_ACCMODE != unix.O_WRONLY // who does not needs no cache
	if f.local && reads && out.OpenFlags&(fuse.FOPEN_KEEP_CACHE|fuse.FOPEN_DIRECT_IO) == 0 {
		var st unix.Statx_t
		if sys.StatAt(fd, "", unix.STATX_CTIME, &st) == 0 && n.last.KeepsData(&st) {
			out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
		}
	}
	return 0
}

// openFlags are those of an open that goes through this process.
func (f *FS) openFlags() uint32 {
	flags := uint32(0)
	if f.local {
		flags |= fuse.FOPEN_NOFLUSH
	}
	switch f.opts.Cache {
	case CacheNone:
		flags |= fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	case CacheAlways:
		flags |= fuse.FOPEN_KEEP_CACHE
	}
	return flags
}

// useBacking lets an open of n use the backing file of the others, or of the
// last one. All opens of a file that are there at a time have the same, or none.
func (f *FS) useBacking(n *node, out *fuse.OpenOut) bool {
	id := n.rec.backing.Load()
	if id == 0 || f.opts.NoPassthrough && n.rec.opens.Load() <= 0 {
		return false
	}
	setBacking(id, out)
	return true
}

func setBacking(id int32, out *fuse.OpenOut) {
	out.BackingID = id
	out.OpenFlags = out.OpenFlags&^(fuse.FOPEN_KEEP_CACHE|fuse.FOPEN_DIRECT_IO|fuse.FOPEN_PARALLEL_DIRECT_WRITES) | fuse.FOPEN_PASSTHROUGH
}

// newBacking has the kernel read and write the file of n, which nobody has
// open, by itself, if it can and may. The kernel opens the file again with the
// flags of each open, so a descriptor to read is enough.
func (f *FS) newBacking(n *node, out *fuse.OpenOut) bool {
	if n.rec.opens.Load() > 0 {
		return false
	}
	f.endBacking(n) // of a predecessor
	if f.opts.NoPassthrough || f.noBack.Load() {
		return false
	}
	c := &n.wr // of a file that was just made
	fd := c.Use()
	if n.written = fd >= 0; !n.written {
		var errno syscall.Errno
		if fd, c, errno = f.data(n, false); errno != 0 {
			return false
		}
	}
	id := f.register(fd)
	c.Put()
	if id == 0 {
		return false
	}
	n.rd.Drop() // the kernel has its own
	n.wr.Drop()
	n.rec.backing.Store(id)
	setBacking(id, out)
	return true
}

// register makes fd a backing file and returns its id, or 0.
func (f *FS) register(fd int) int32 {
	s := f.server.Load()
	if s == nil || f.noBack.Load() {
		return 0
	}
	id, errno := s.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	switch errno {
	case 0:
		return id
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM: // another time perhaps
	case syscall.EACCES: // another file
	default:
		f.noBack.Store(true)
	}
	return 0
}

// endBacking gives n's backing files back. n.mu is held.
func (f *FS) endBacking(n *node) {
	s := f.server.Load()
	if s == nil {
		return
	}
	if id := n.rec.backing.Swap(0); id != 0 {
		s.UnregisterBackingFd(id)
	}
	if id := n.rec.pin.Swap(0); id != 0 {
		s.UnregisterBackingFd(id)
	}
}

// keepUnnamed sees to it that n, which is about to lose its last name, outlives
// this process if it is open: the kernel keeps it as a backing file.
func (f *FS) keepUnnamed(n *node) {
	if f.opts.Table == "" || n.rec == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rec.opens.Load() <= 0 || n.rec.backing.Load() != 0 || n.rec.pin.Load() != 0 {
		return
	}
	fd, c, errno := f.data(n, false)
	if errno != 0 {
		return
	}
	defer c.Put()
	if id := f.register(fd); id != 0 {
		n.rec.pin.Store(id)
	}
}

// Release counts a close.
func (f *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	n := f.node(in.NodeId)
	if n == nil || n.rec == nil || f.resent(&in.InHeader) {
		return // sent again it may have been counted
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	left := n.rec.opens.Add(-1)
	if left >= 0 {
		f.open.Add(-1)
	}
	if left > 0 {
		return
	}
	n.rec.opens.Store(0)
	n.wr.Drop()
	if f.rests(n) {
		f.rest(n)
	} else {
		f.shut(n)
	}
}

// truncate sets the size of n's file.
func (f *FS) truncate(n *node, size int64) syscall.Errno {
	if fd := n.wr.Use(); fd >= 0 {
		defer n.wr.Put()
		return errnoOf(unix.Ftruncate(fd, size))
	}
	fd, errno := f.use(n)
	if errno != 0 {
		return errno
	}
	defer n.fd.Put()
	return sys.TruncateFD(fd, size)
}

// Read reads a file.
func (f *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n := f.node(in.NodeId)
	if n == nil {
		return nil, stale
	}
	fd, c, errno := f.data(n, false)
	if errno != 0 {
		return nil, fuse.Status(errno)
	}
	defer c.Put()
	size, errno := all(unix.Pread, fd, buf[:min(int(in.Size), len(buf))], int64(in.Offset))
	return fuse.ReadResultData(buf[:size]), fuse.Status(errno)
}

// Write writes a file.
func (f *FS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n := f.node(in.NodeId)
	if n == nil {
		return 0, stale
	}
	fd, c, errno := f.data(n, true)
	if errno != 0 {
		return 0, fuse.Status(errno)
	}
	defer c.Put()
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if errno := dropSetID(fd, &in.Caller); errno != 0 {
			return 0, fuse.Status(errno)
		}
	}
	size, errno := all(unix.Pwrite, fd, data, int64(in.Offset))
	return uint32(size), fuse.Status(errno)
}

// all calls pread(2) or pwrite(2) until b is done, the file ends, or there is
// an error, which counts only if nothing went before it.
func all(call func(int, []byte, int64) (int, error), fd int, b []byte, off int64) (done int, errno syscall.Errno) {
	for done < len(b) {
		n, err := call(fd, b[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && done > 0:
			return done, 0
		case err != nil:
			return 0, errnoOf(err)
		case n == 0:
			return done, 0
		}
		done += n
	}
	return done, 0
}

// Flush has a network file system below tell of errors.
func (f *FS) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil {
		return stale
	}
	fd := n.wr.Use()
	if f.local || fd < 0 {
		return fuse.OK
	}
	defer n.wr.Put()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(dup)
	}
	return fuse.Status(errnoOf(err))
}

// Fsync makes a file durable.
func (f *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fuse.Status(f.withData(in.NodeId, false, func(fd int) syscall.Errno {
		if in.FsyncFlags&fuse.FUSE_FSYNC_FDATASYNC != 0 {
			return errnoOf(unix.Fdatasync(fd))
		}
		return errnoOf(unix.Fsync(fd))
	}))
}

// Fallocate is fallocate(2).
func (f *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return fuse.Status(f.withData(in.NodeId, true, func(fd int) syscall.Errno {
		if errno := dropSetIDForUser(fd, &in.Caller); errno != 0 {
			return errno
		}
		return errnoOf(unix.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length)))
	}))
}

// Lseek finds data or a hole.
func (f *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return fuse.Status(f.withData(in.NodeId, false, func(fd int) syscall.Errno {
		at, err := unix.Seek(fd, int64(in.Offset), int(in.Whence))
		out.Offset = uint64(at)
		return errnoOf(err)
	}))
}

// CopyFileRange copies without the data passing through this process.
func (f *FS) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (count uint32, code fuse.Status) {
	code = fuse.Status(f.withData(in.NodeId, false, func(from int) syscall.Errno {
		return f.withData(in.NodeIdOut, true, func(to int) syscall.Errno {
			if errno := dropSetIDForUser(to, &in.Caller); errno != 0 {
				return errno
			}
			offIn, offOut := int64(in.OffIn), int64(in.OffOut)
			c, err := unix.CopyFileRange(from, &offIn, to, &offOut, int(min(in.Len, 1<<30)), int(in.Flags))
			count = uint32(max(c, 0))
			return errnoOf(err)
		})
	}))
	return count, code
}

// Ioctl is not supported: no ioctl(2) is worth the risk of passing on what it
// points to.
func (f *FS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
