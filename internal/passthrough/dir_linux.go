package passthrough

import (
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// dirHandles are the open directories. A handle that is not known is a
// predecessor's: the directory is opened again under it.
type dirHandles struct {
	next atomic.Uint64
	mu   sync.Mutex
	open map[uint64]*dirHandle
}

// dirHandle is an open directory.
type dirHandle struct {
	mu   sync.Mutex
	fd   int              // -1 until it is needed
	buf  *[direntBuf]byte // nil or from direntBufs
	todo []byte           // entries in buf that have not been given
	off  uint64           // of the entry that was given last
}

const direntBuf = 32 << 10

// direntBufs are lent to handles while they have entries to give.
var direntBufs = sync.Pool{New: func() any { return new([direntBuf]byte) }}

func (t *dirHandles) get(fh uint64) *dirHandle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[fh]
}

// put adds a handle unless there is one, which it returns then.
func (t *dirHandles) put(fh uint64, d *dirHandle) (*dirHandle, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.open[fh]; known != nil {
		return known, false
	}
	if t.open == nil {
		t.open = map[uint64]*dirHandle{}
	}
	t.open[fh] = d
	return d, true
}

func (t *dirHandles) remove(fh uint64) {
	t.mu.Lock()
	d := t.open[fh]
	delete(t.open, fh)
	t.mu.Unlock()
	if d != nil {
		d.close()
	}
}

func (t *dirHandles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.open {
		d.close()
	}
	t.open = nil
}

func (d *dirHandle) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.giveBuffer()
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	d.fd = -1
}

// lockDir returns an open directory of the kernel's with its mu held; one that
// was not read yet is opened now.
func (f *FS) lockDir(id, fh uint64) (*dirHandle, syscall.Errno) {
	d, errno := f.dir(id, fh)
	if errno != 0 {
		return nil, errno
	}
	d.mu.Lock()
	if d.fd >= 0 {
		return d, 0
	}
	opened, errno := f.openDir(id)
	if errno != 0 {
		d.mu.Unlock()
		return nil, errno
	}
	d.fd = opened.fd
	return d, 0
}

func (d *dirHandle) giveBuffer() {
	if d.buf != nil {
		direntBufs.Put(d.buf)
		d.buf, d.todo = nil, nil
	}
}

// OpenDir opens a directory.
func (f *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	keep, errno := f.listing(in.NodeId, out)
	d := &dirHandle{fd: -1}
	if errno == 0 && !keep {
		d, errno = f.openDir(in.NodeId)
	}
	if errno != 0 {
		return fuse.Status(errno)
	}
	for ok := false; !ok; {
		out.Fh = f.dirs.next.Add(1)
		_, ok = f.dirs.put(out.Fh, d)
	}
	return fuse.OK
}

// listing says whether the kernel may cache the listing of a directory that is
// being opened, and reports whether it may keep the one that it has: then the
// directory need not be opened before it is read after all.
func (f *FS) listing(id uint64, out *fuse.OpenOut) (keep bool, errno syscall.Errno) {
	if f.opts.Cache == CacheAlways {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
		return true, 0
	}
	if !f.local {
		return false, 0
	}
	errno = f.with(id, func(n *node, fd int) syscall.Errno {
		var st unix.Statx_t
		if errno := sys.StatAt(fd, "", unix.STATX_CTIME|unix.STATX_INO, &st); errno != 0 {
			return errno
		}
		if identityOf(&st).dev != f.rootDev {
			return 0 // not local, perhaps
		}
		var cache bool
		if cache, keep = n.last.Listing(&st); cache {
			out.OpenFlags = fuse.FOPEN_CACHE_DIR
		}
		if keep {
			out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
		}
		return 0
	})
	return keep, errno
}

func (f *FS) openDir(id uint64) (d *dirHandle, errno syscall.Errno) {
	errno = f.with(id, func(_ *node, dir int) syscall.Errno {
		fd, errno := sys.OpenAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		d = &dirHandle{fd: fd}
		return errno
	})
	return d, errno
}

// dir returns an open directory of the kernel's.
func (f *FS) dir(id, fh uint64) (*dirHandle, syscall.Errno) {
	if d := f.dirs.get(fh); d != nil {
		return d, 0
	}
	d, errno := f.openDir(id)
	if errno != 0 {
		return nil, errno
	}
	known, ok := f.dirs.put(fh, d)
	if !ok {
		d.close()
	}
	return known, 0
}

// ReleaseDir closes a directory.
func (f *FS) ReleaseDir(in *fuse.ReleaseIn) { f.dirs.remove(in.Fh) }

// FsyncDir makes the names of a directory durable.
func (f *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	d, errno := f.lockDir(in.NodeId, in.Fh)
	if errno != 0 {
		return fuse.Status(errno)
	}
	defer d.mu.Unlock()
	return fuse.Status(errnoOf(unix.Fsync(d.fd)))
}

// ReadDir lists a directory.
func (f *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return f.readDir(in, func(_ int, e *sys.Dirent) bool {
		return list.AddDirEntry(f.dirEntry(e))
	})
}

// ReadDirPlus lists a directory and looks its names up.
func (f *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return f.readDir(in, func(dir int, e *sys.Dirent) bool {
		out := list.AddDirLookupEntry(f.dirEntry(e))
		if out == nil {
			return false
		}
		if e.Name == "." || e.Name == ".." {
			return true
		}
		// A failure gives no reference: the kernel looks the name up itself.
		if f.lookup(dir, e.Name, out) != 0 {
			*out = fuse.EntryOut{}
		} else if out.Mode&syscall.S_IFMT != e.Mode {
			list.FixMode(out.Mode)
		}
		return true
	})
}

func (f *FS) dirEntry(e *sys.Dirent) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Mode: e.Mode, Ino: e.Ino, Off: e.Off}
}

// readDir gives entries, from the offset of the request on, as long as add
// takes them.
func (f *FS) readDir(in *fuse.ReadIn, add func(dir int, e *sys.Dirent) bool) fuse.Status {
	d, errno := f.lockDir(in.NodeId, in.Fh)
	if errno != 0 {
		return fuse.Status(errno)
	}
	defer d.mu.Unlock()
	if in.Offset != d.off || in.Offset == 0 { // 0 is a rewind as well
		if _, err := unix.Seek(d.fd, int64(in.Offset), unix.SEEK_SET); err != nil {
			return fuse.Status(errnoOf(err))
		}
		d.todo, d.off = nil, in.Offset
	}
	for given := false; ; given = true {
		if errno := d.load(); errno != 0 && !given {
			return fuse.Status(errno)
		}
		if len(d.todo) == 0 {
			return fuse.OK
		}
		e := sys.ParseDirent(d.todo)
		if e.Size == 0 {
			return fuse.EIO
		}
		if !add(d.fd, &e) {
			return fuse.OK
		}
		d.todo, d.off = d.todo[e.Size:], e.Off
	}
}

// load sees to it that todo has an entry, unless the directory is at its end.
func (d *dirHandle) load() syscall.Errno {
	if len(d.todo) > 0 {
		return 0
	}
	if d.buf == nil {
		d.buf = direntBufs.Get().(*[direntBuf]byte)
	}
	n, errno := sys.Getdents(d.fd, d.buf[:])
	if errno == syscall.ENOENT { // the directory was removed: it is empty
		n, errno = 0, 0
	}
	d.todo = d.buf[:max(n, 0)]
	if n <= 0 {
		d.giveBuffer()
	}
	return errno
}
