package fs

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
	"golang.org/x/sys/unix"
)

// LoopbackFile is a handle that forwards all operations to an open file of
// this machine. Types may embed a *LoopbackFile to change some of them. All
// methods are safe for concurrent use; after Release they give EBADF.
type LoopbackFile struct {
	fd    int
	f     *os.File     // owns fd if not nil
	state atomic.Int32 // users, or'ed with closing
	alone bool         // no passthrough
	adds  bool         // fd has O_APPEND: the file takes nothing else
	locks handleLocks
	open  openFile
}

// NewLoopbackFile returns a handle on the file that fd is open on, which it
// owns: Release closes it, as does the garbage collector.
// [NewLoopbackFileFromOS] is easier to use rightly.
func NewLoopbackFile(fd int) FileHandle {
	return NewLoopbackFileFromOS(os.NewFile(uintptr(fd), "loopback"))
}

// NewLoopbackFileFromOS returns a handle on f, which it owns.
func NewLoopbackFileFromOS(f *os.File) *LoopbackFile {
	lf := &LoopbackFile{f: f, fd: -1}
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { lf.fd = int(fd) })
	}
	return lf
}

// newFile returns a handle on fd, whose Release must be called.
func (n *LoopbackNode) newFile(fd int) *LoopbackFile {
	var f *LoopbackFile
	if n.embed().pooled { // nobody else has its handles
		f = loopbackFiles.Get().(*LoopbackFile)
	} else {
		f = new(LoopbackFile)
	}
	f.fd, f.alone, f.adds = fd, n.RootData.NoPassthrough, false
	f.state.Store(0)
	if b := n.embed().bridge; b != nil && b.options.EnableLocks {
		n.locks.CompareAndSwap(nil, new(lockOwners))
		f.locks.file.Store(n.locks.Load())
	}
	return f
}

// loopbackFiles are handles for plain nodes.
var loopbackFiles = sync.Pool{New: func() any { return new(LoopbackFile) }}

func (f *LoopbackFile) recycle() {
	if f.state.Load() != closing || f.f != nil {
		return
	}
	f.locks.file.Store(nil)
	f.fd = -1
	f.open.recycle()
	loopbackFiles.Put(f)
}

func (f *LoopbackFile) openFile() *openFile { return &f.open }

// use returns the descriptor, or false after Release; done ends the use.
func (f *LoopbackFile) use() (int, bool) {
	for {
		s := f.state.Load()
		if s&closing != 0 || f.fd < 0 {
			return -1, false
		}
		if f.state.CompareAndSwap(s, s+1) {
			return f.fd, true
		}
	}
}

func (f *LoopbackFile) done() {
	if f.state.Add(-1) == closing {
		f.close()
	}
}

func (f *LoopbackFile) close() syscall.Errno {
	f.locks.end()
	if f.f != nil {
		return ToErrno(f.f.Close())
	}
	return ToErrno(unix.Close(f.fd))
}

func (f *LoopbackFile) withFD(fn func(fd int) syscall.Errno) syscall.Errno {
	fd, ok := f.use()
	if !ok {
		return syscall.EBADF
	}
	defer f.done()
	return fn(fd)
}

// Release closes the file, at the end of the last operation on it.
func (f *LoopbackFile) Release(ctx context.Context) syscall.Errno {
	for {
		s := f.state.Load()
		if s&closing != 0 || f.fd < 0 {
			return syscall.EBADF
		}
		if f.state.CompareAndSwap(s, s|closing) {
			if s == 0 {
				return f.close()
			}
			return 0
		}
	}
}

func (f *LoopbackFile) onlyAppends() bool { return f.adds }

// PassthroughFd offers the file to the kernel.
func (f *LoopbackFile) PassthroughFd() (int, bool) {
	fd, ok := f.use()
	if !ok {
		return -1, false
	}
	defer f.done()
	return fd, !f.alone
}

// Read reads into buf.
func (f *LoopbackFile) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	fd, ok := f.use()
	if !ok {
		return nil, syscall.EBADF
	}
	defer f.done()
	n, errno := transfer(unix.Pread, fd, buf, off)
	if errno != 0 {
		return nil, errno
	}
	return readData(buf[:n]), 0
}

// transfer reads or writes all of b, or as much as goes. What went before an
// error counts.
func transfer(do func(fd int, b []byte, off int64) (int, error), fd int, b []byte, off int64) (int, syscall.Errno) {
	n := 0
	for n < len(b) {
		m, err := do(fd, b[n:], off+int64(n))
		if err == unix.EINTR {
			continue // nothing went
		}
		if err != nil && n == 0 {
			return 0, ToErrno(err)
		}
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	return n, 0
}

// readData returns a result of data that is from the reply's own buffer.
func readData(b []byte) fuse.ReadResult {
	r := readResults.Get().(*readResult)
	r.data = b
	return r
}

type readResult struct{ data []byte }

var readResults = sync.Pool{New: func() any { return new(readResult) }}

func (r *readResult) Size() int                          { return len(r.data) }
func (r *readResult) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }

func (r *readResult) Done() {
	r.data = nil
	readResults.Put(r)
}

// Write writes all of data, or returns how much went before the error.
func (f *LoopbackFile) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	fd, ok := f.use()
	if !ok {
		return 0, syscall.EBADF
	}
	defer f.done()
	n, errno := transfer(unix.Pwrite, fd, data, off)
	return uint32(n), errno
}

// Writev writes the slices one after another.
func (f *LoopbackFile) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	fd, ok := f.use()
	if !ok {
		return 0, syscall.EBADF
	}
	defer f.done()
	n, err := unix.Pwritev(fd, data, off)
	return uint32(max(n, 0)), ToErrno(err)
}

// Flush closes a duplicate, because that is how a network file system below
// is made to tell of errors.
func (f *LoopbackFile) Flush(ctx context.Context) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return ToErrno(err)
		}
		return ToErrno(unix.Close(dup))
	})
}

// Fsync makes the file durable.
func (f *LoopbackFile) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		if flags&1 != 0 {
			return ToErrno(unix.Fdatasync(fd))
		}
		return ToErrno(unix.Fsync(fd))
	})
}

// Getattr gives the attributes of the file.
func (f *LoopbackFile) Getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno {
	fd, ok := f.use()
	if !ok {
		return syscall.EBADF
	}
	defer f.done()
	var st unix.Statx_t
	if errno := sys.StatAt(fd, "", unix.STATX_BASIC_STATS, &st); errno != 0 {
		return errno
	}
	out.Attr.FromStatx(&st)
	return 0
}

// Statx gives the attributes that mask asks for.
func (f *LoopbackFile) Statx(ctx context.Context, flags uint32, mask uint32, out *fuse.StatxOut) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		var st unix.Statx_t
		if errno := sys.StatAt(fd, "", int(mask), &st); errno != 0 {
			return errno
		}
		out.FromStatx(&st)
		return 0
	})
}

// Setattr changes attributes of the file.
func (f *LoopbackFile) Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := f.withFD(func(fd int) syscall.Errno { return setattr(fd, false, in) }); errno != 0 {
		return errno
	}
	return f.Getattr(ctx, out)
}

// Allocate is fallocate(2).
func (f *LoopbackFile) Allocate(ctx context.Context, off uint64, sz uint64, mode uint32) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		return ToErrno(unix.Fallocate(fd, mode, int64(off), int64(sz)))
	})
}

// Lseek finds data or a hole.
func (f *LoopbackFile) Lseek(ctx context.Context, off uint64, whence uint32) (at uint64, errno syscall.Errno) {
	errno = f.withFD(func(fd int) syscall.Errno {
		n, err := unix.Seek(fd, int64(off), int(whence))
		at = uint64(n)
		return ToErrno(err)
	})
	return at, errno
}

// CopyFileRange copies between two files of loopbacks without the data
// passing through this process.
func (n *LoopbackNode) CopyFileRange(ctx context.Context, fhIn FileHandle,
	offIn uint64, out *Inode, fhOut FileHandle, offOut uint64,
	len uint64, flags uint64) (count uint32, errno syscall.Errno) {
	from, ok := fhIn.(*LoopbackFile)
	to, ok2 := fhOut.(*LoopbackFile)
	if !ok || !ok2 {
		return 0, syscall.ENOTSUP
	}
	errno = from.withFD(func(fdIn int) syscall.Errno {
		return to.withFD(func(fdOut int) syscall.Errno {
			in, out := int64(offIn), int64(offOut)
			c, err := unix.CopyFileRange(fdIn, &in, fdOut, &out, int(min(len, 1<<30)), int(flags))
			count = uint32(max(c, 0))
			return ToErrno(err)
		})
	})
	return count, errno
}

// lockOwners are the POSIX locks on a file: by owner, a descriptor that has
// the owner's locks. An owner is a process, or an open file description; a
// process has the same locks whichever of its descriptors it uses, and loses
// them when it closes any.
type lockOwners struct {
	mu sync.Mutex
	fd map[uint64]int
}

// forOwner returns the descriptor for the locks of an owner on the file that
// fd is open on.
func (l *lockOwners) forOwner(fd int, owner uint64) (int, syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own, ok := l.fd[owner]; ok {
		return own, 0
	}
	own, errno := reopen(fd, unix.O_RDWR|unix.O_NONBLOCK)
	if errno != 0 { // what fd was opened for was allowed
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return -1, ToErrno(err)
		}
		if own, errno = reopen(fd, flags&unix.O_ACCMODE|unix.O_NONBLOCK); errno != 0 {
			return -1, errno
		}
	}
	if l.fd == nil {
		l.fd = map[uint64]int{}
	}
	l.fd[owner] = own
	return own, 0
}

// drop gives back all locks of an owner.
func (l *lockOwners) drop(owner uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd, ok := l.fd[owner]; ok {
		unix.Close(fd)
		delete(l.fd, owner)
	}
}

// handleLocks is the part of a handle in the locks on its file.
type handleLocks struct {
	file   atomic.Pointer[lockOwners]
	mu     sync.Mutex
	owners map[uint64]bool // who took locks through the handle
}

// forOwner is lockOwners.forOwner.
func (h *handleLocks) forOwner(fd int, owner uint64) (int, syscall.Errno) {
	if h.file.Load() == nil {
		h.file.CompareAndSwap(nil, new(lockOwners)) // of no node: its own
	}
	h.mu.Lock()
	if h.owners == nil {
		h.owners = map[uint64]bool{}
	}
	h.owners[owner] = true
	h.mu.Unlock()
	return h.file.Load().forOwner(fd, owner)
}

// drop gives back the locks of an owner.
func (h *handleLocks) drop(owner uint64) {
	if l := h.file.Load(); l != nil {
		l.drop(owner)
	}
}

// end gives back the locks of all who used the handle: it has been closed by
// each of them.
func (h *handleLocks) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for owner := range h.owners {
		h.drop(owner)
	}
	h.owners = nil
}

// flushOwner is told of a close(2) by a lock owner, whose POSIX locks end.
func (f *LoopbackFile) flushOwner(owner uint64) { f.locks.drop(owner) }

// Getlk looks for a lock in the way of lk.
func (f *LoopbackFile) Getlk(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32, out *fuse.FileLock) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		own, errno := f.locks.forOwner(fd, owner)
		if errno != 0 {
			return errno
		}
		var l syscall.Flock_t
		lk.ToFlockT(&l)
		l.Pid = 0
		if err := syscall.FcntlFlock(uintptr(own), unix.F_OFD_GETLK, &l); err != nil {
			return ToErrno(err)
		}
		out.FromFlockT(&l)
		return 0
	})
}

// Setlk takes, changes or gives back a lock without waiting.
func (f *LoopbackFile) Setlk(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno { return f.setLock(fd, owner, lk, flags) })
}

// Setlkw is Setlk that waits, until ctx is cancelled. It asks again and again,
// as a thread that waits in fcntl(2) could not be called back.
func (f *LoopbackFile) Setlkw(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno {
		pause := time.Millisecond
		for {
			errno := f.setLock(fd, owner, lk, flags)
			if errno != syscall.EAGAIN && errno != syscall.EACCES {
				return errno
			}
			t := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				t.Stop()
				return syscall.EINTR
			case <-t.C:
			}
			pause = min(2*pause, 50*time.Millisecond)
		}
	})
}

func (f *LoopbackFile) setLock(fd int, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	if flags&fuse.FUSE_LK_FLOCK != 0 {
		op := map[uint32]int{syscall.F_RDLCK: unix.LOCK_SH, syscall.F_WRLCK: unix.LOCK_EX, syscall.F_UNLCK: unix.LOCK_UN}
		how, ok := op[lk.Typ]
		if !ok {
			return syscall.EINVAL
		}
		return ToErrno(unix.Flock(fd, how|unix.LOCK_NB))
	}
	own, errno := f.locks.forOwner(fd, owner)
	if errno != 0 {
		return errno
	}
	var l syscall.Flock_t
	lk.ToFlockT(&l)
	l.Pid = 0
	return ToErrno(syscall.FcntlFlock(uintptr(own), unix.F_OFD_SETLK, &l))
}

// reopen opens the file behind a descriptor once more.
func reopen(fd, flags int) (int, syscall.Errno) {
	n, errno := sys.ReopenFD(fd, flags&^(unix.O_NOFOLLOW|unix.O_CREAT|unix.O_EXCL))
	return n, errno
}
