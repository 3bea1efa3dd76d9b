package fs

import (
	"context"
	"strings"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
	"golang.org/x/sys/unix"
)

// NewLoopbackDirStream opens a directory of this machine as a stream.
func NewLoopbackDirStream(name string) (DirStream, syscall.Errno) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, ToErrno(err)
	}
	return NewLoopbackDirStreamFd(fd)
}

// NewLoopbackDirStreamFd returns a stream of the directory that fd is open
// on, which it owns. It is a directory handle as well.
func NewLoopbackDirStreamFd(fd int) (DirStream, syscall.Errno) {
	return &loopbackDir{fd: fd}, 0
}

// OpendirHandle opens the directory below.
func (n *LoopbackNode) OpendirHandle(ctx context.Context, flags uint32) (FileHandle, uint32, syscall.Errno) {
	var st unix.Statx_t
	d, errno := n.openDir(&st)
	if errno != 0 {
		return nil, 0, errno
	}
	if st.Mask&unix.STATX_CTIME == 0 {
		if errno := sys.StatAt(d.fd, "", unix.STATX_CTIME, &st); errno != 0 {
			d.Close()
			return nil, 0, errno
		}
	}
	return d, n.listFlags(&st), 0
}

// Readdir lists the directory below.
func (n *LoopbackNode) Readdir(ctx context.Context) (DirStream, syscall.Errno) {
	var st unix.Statx_t
	d, errno := n.openDir(&st)
	if errno != 0 {
		return nil, errno
	}
	return d, 0
}

// openDir opens the directory for reading; it may put its times into st. One
// that nothing was looked up in need not be kept open for that.
func (n *LoopbackNode) openDir(st *unix.Statx_t) (*loopbackDir, syscall.Errno) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	var fd int
	var errno syscall.Errno
	if dir := n.dirFD.Use(); dir >= 0 {
		fd, errno = sys.OpenAt(dir, ".", flags, 0)
		n.dirFD.Put()
	} else {
		fd, errno = n.openFile(flags|unix.O_NOFOLLOW, st)
	}
	if errno != 0 {
		return nil, errno
	}
	return &loopbackDir{fd: fd}, 0
}

// loopbackDir is an open directory: a stream and a handle.
type loopbackDir struct {
	open openFile

	mu   sync.Mutex
	fd   int    // -1 once closed
	buf  []byte // nil or of direntBufs
	todo []byte // entries in buf that have not been given
	off  uint64 // of the entry given last
	fail syscall.Errno
}

// direntBufs holds buffers for getdents64(2).
var direntBufs = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (d *loopbackDir) openFile() *openFile { return &d.open }

// load sees to it that todo has an entry, unless the directory is at its end.
func (d *loopbackDir) load() {
	if len(d.todo) > 0 || d.fail != 0 {
		return
	}
	if d.fd < 0 {
		return
	}
	if d.buf == nil {
		d.buf = direntBufs.Get().(*[32 << 10]byte)[:]
	}
	n, errno := sys.Getdents(d.fd, d.buf)
	if errno == syscall.ENOENT { // the directory was removed: it is empty
		n, errno = 0, 0
	}
	d.todo, d.fail = d.buf[:max(n, 0)], errno
	if n <= 0 {
		d.todo = nil
		d.giveBuffer()
	}
}

func (d *loopbackDir) giveBuffer() {
	if d.buf != nil {
		direntBufs.Put((*[32 << 10]byte)(d.buf))
		d.buf, d.todo = nil, nil
	}
}

// HasNext reports whether there is an entry or an error to be had.
func (d *loopbackDir) HasNext() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	return len(d.todo) > 0 || d.fail != 0
}

// Next returns the next entry.
func (d *loopbackDir) Next() (fuse.DirEntry, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	if d.fail != 0 {
		errno := d.fail
		d.fail = 0
		return fuse.DirEntry{}, errno
	}
	e := sys.ParseDirent(d.todo)
	if e.Size == 0 {
		d.todo = nil
		return fuse.DirEntry{}, syscall.EIO
	}
	d.todo, d.off = d.todo[e.Size:], e.Off
	return fuse.DirEntry{Name: strings.Clone(e.Name), Mode: e.Mode, Ino: e.Ino, Off: e.Off}, 0
}

// Readdirent returns the next entry, nil at the end.
func (d *loopbackDir) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !d.HasNext() {
		return nil, 0
	}
	e, errno := d.Next()
	return &e, errno
}

// Seekdir goes on behind the entry of offset off.
func (d *loopbackDir) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seek(off)
}

func (d *loopbackDir) seek(off uint64) syscall.Errno {
	if _, err := unix.Seek(d.fd, int64(off), unix.SEEK_SET); err != nil {
		return ToErrno(err)
	}
	d.todo, d.fail, d.off = nil, 0, off
	return 0
}

// Close closes the directory.
func (d *loopbackDir) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.giveBuffer()
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// Releasedir closes the directory.
func (d *loopbackDir) Releasedir(ctx context.Context, flags uint32) { d.Close() }

// Fsyncdir makes the names durable.
func (d *loopbackDir) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return d.withFD(func(fd int) syscall.Errno { return ToErrno(unix.Fsync(fd)) })
}

func (d *loopbackDir) withFD(f func(fd int) syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return syscall.EBADF
	}
	return f(d.fd)
}

// canReadRaw reports whether the node is a plain LoopbackNode, whose look-ups
// are those of this package.
func (d *loopbackDir) canReadRaw(n *Inode) bool { return n.pooled }

// readRaw puts the entries behind off into out, straight from the buffer that
// the kernel filled.
func (d *loopbackDir) readRaw(ctx *fuse.Context, b *rawBridge, n *Inode, off uint64, out *fuse.DirEntryList, plus bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off != d.off {
		if errno := d.seek(off); errno != 0 {
			return errno
		}
	}
	now := b.milliseconds()
	for first := true; ; first = false {
		if d.load(); d.fail != 0 && first {
			errno := d.fail
			d.fail = 0
			return errno
		}
		if len(d.todo) == 0 {
			return 0
		}
		e := sys.ParseDirent(d.todo)
		if e.Size == 0 {
			return syscall.EIO
		}
		de := fuse.DirEntry{Name: e.Name, Mode: e.Mode, Ino: e.Ino, Off: e.Off}
		if !plus {
			if !out.AddDirEntry(de) {
				return 0
			}
		} else {
			entry := out.AddDirLookupEntry(de)
			if entry == nil {
				return 0
			}
			if e.Name != "." && e.Name != ".." {
				d.lookup(ctx, b, n, &e, now, entry, out)
			}
		}
		d.todo, d.off = d.todo[e.Size:], e.Off
	}
}

// lookup adds the inode of an entry. If that fails, or the kernel has been told
// of it just now, the kernel goes by what it knows or looks the name up itself.
func (d *loopbackDir) lookup(ctx *fuse.Context, b *rawBridge, n *Inode, e *sys.Dirent, now uint32, entry *fuse.EntryOut, out *fuse.DirEntryList) {
	l, ok := n.ops.(*LoopbackNode)
	if !ok {
		return
	}
	name, child := n.childNamed(e.Name)
	if child != nil && child.ino == e.Ino && child.mode == e.Mode && child.toldOfLate(now) {
		return
	}
	var st unix.Statx_t
	if sys.StatEntryAt(d.fd, e.NUL, statMask, &st) != 0 {
		return
	}
	id := l.RootData.identity(&st)
	if child == nil || child.StableAttr() != id {
		name = strings.Clone(e.Name)
		child = n.NewInode(ctx, &LoopbackNode{RootData: l.RootData}, id)
	}
	entry.Attr.FromStatx(&st)
	child, errno := b.addEntry(n, name, child, false, entry)
	if errno != 0 {
		*entry = fuse.EntryOut{}
		return
	}
	child.told.Store(now)
	if child.mode != e.Mode {
		out.FixMode(child.mode)
	}
}
