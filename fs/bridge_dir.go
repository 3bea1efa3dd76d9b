package fs

import (
	"context"
	"slices"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

func (b *rawBridge) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	ctx := n.context(cancel, in.Caller)
	f, flags, errno := openDir(ctx, n, in.Flags)
	n.done(ctx)
	if errno != 0 {
		return fuse.Status(errno)
	}
	if flags&(fuse.FOPEN_CACHE_DIR|fuse.FOPEN_KEEP_CACHE) != 0 && !n.pooled {
		flags |= fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	}
	of := b.register(n, f)
	if of == nil {
		return fuse.Status(syscall.ENFILE)
	}
	out.Fh, out.OpenFlags = of.id.Load(), flags
	return fuse.OK
}

func openDir(ctx context.Context, n *Inode, flags uint32) (FileHandle, uint32, syscall.Errno) {
	if h, ok := n.ops.(NodeOpendirHandler); ok {
		return h.OpendirHandle(ctx, flags)
	}
	if o, ok := n.ops.(NodeOpendirer); ok {
		if errno := o.Opendir(ctx); errno != 0 {
			return nil, 0, errno
		}
	}
	if r, ok := n.ops.(NodeReaddirer); ok {
		return &streamHandle{open: r.Readdir}, 0, 0
	}
	return &streamHandle{open: func(context.Context) (DirStream, syscall.Errno) {
		var list []fuse.DirEntry
		for _, e := range n.childList() {
			list = append(list, fuse.DirEntry{Name: e.name, Mode: e.node.mode, Ino: e.node.ino})
		}
		return NewListDirStream(list), 0
	}}, 0, 0
}

// dirReader is where the reading of an open directory stands. The kernel may
// ask for an offset again, for a reply that it had to throw away.
type dirReader struct {
	mu   sync.Mutex
	off  uint64          // of the entry sent last
	sent []fuse.DirEntry // the last reply
	todo []fuse.DirEntry // taken from the handle and not sent yet
	fail syscall.Errno   // to be told at the next call
}

const maxSent = 4096 // entries that are kept for asking again

func (b *rawBridge) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return b.readDir(cancel, in, out, false)
}

func (b *rawBridge) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return b.readDir(cancel, in, out, true)
}

func (b *rawBridge) readDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	of := b.file(in.NodeId, in.Fh)
	if of == nil {
		return fuse.EBADF
	}
	defer of.put()
	n := of.inode
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	if fast, ok := of.handle.(rawDirReader); ok && fast.canReadRaw(n) {
		return fuse.Status(fast.readRaw(ctx, b, n, in.Offset, out, plus))
	}
	r, ok := of.handle.(FileReaddirenter)
	if !ok {
		return fuse.OK
	}
	d := of.dirReader()
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Offset != d.off {
		if errno := d.seek(ctx, of.handle, in.Offset); errno != 0 {
			return fuse.Status(errno)
		}
	}
	return fuse.Status(d.fill(ctx, b, of, r, out, plus))
}

// rawDirReader is a directory handle that fills a reply by itself.
type rawDirReader interface {
	canReadRaw(n *Inode) bool
	readRaw(ctx *fuse.Context, b *rawBridge, n *Inode, off uint64, out *fuse.DirEntryList, plus bool) syscall.Errno
}

func (of *openFile) dirReader() *dirReader {
	n := of.inode
	n.mu.Lock()
	defer n.mu.Unlock()
	if of.dir == nil {
		of.dir = new(dirReader)
	}
	return of.dir
}

// seek makes off the place to go on from.
func (d *dirReader) seek(ctx context.Context, f FileHandle, off uint64) syscall.Errno {
	for i := range d.sent {
		if d.sent[i].Off == off {
			d.todo = slices.Concat(d.sent[i+1:], d.todo)
			d.off = off
			return 0
		}
	}
	s, ok := f.(FileSeekdirer)
	if !ok {
		return syscall.ENOTSUP
	}
	if errno := s.Seekdir(ctx, off); errno != 0 {
		return errno
	}
	d.off, d.todo, d.fail = off, nil, 0
	return 0
}

// fill adds entries to out until it is full or the directory ends.
func (d *dirReader) fill(ctx *fuse.Context, b *rawBridge, of *openFile, r FileReaddirenter, out *fuse.DirEntryList, plus bool) syscall.Errno {
	if d.fail != 0 {
		errno := d.fail
		d.fail = 0
		return errno
	}
	d.sent = d.sent[:0]
	for {
		e, errno := d.next(ctx, r)
		if errno != 0 {
			if len(d.sent) == 0 {
				return errno
			}
			d.fail = errno
			return 0
		}
		if e == nil {
			return 0
		}
		if e.Off == 0 {
			e.Off = d.off + 1
		}
		entry := *e
		if !d.add(ctx, b, of, entry, out, plus) {
			if len(d.todo) == 0 {
				d.todo = append(d.todo, entry)
			} else {
				d.todo[0] = entry
			}
			return 0
		}
		if len(d.todo) > 0 {
			d.todo = d.todo[1:]
		}
		d.off = entry.Off
		if len(d.sent) == maxSent {
			d.sent = slices.Delete(d.sent, 0, maxSent/2)
		}
		d.sent = append(d.sent, entry)
	}
}

// next returns the entry to be sent next; one in todo stays there.
func (d *dirReader) next(ctx context.Context, r FileReaddirenter) (*fuse.DirEntry, syscall.Errno) {
	if len(d.todo) > 0 {
		return &d.todo[0], 0
	}
	return r.Readdirent(ctx)
}

// add puts one entry into out, with its attributes if plus is set. It returns
// false, and nothing has happened, if there is no room.
func (d *dirReader) add(ctx *fuse.Context, b *rawBridge, of *openFile, e fuse.DirEntry, out *fuse.DirEntryList, plus bool) bool {
	if !plus {
		return out.AddDirEntry(e)
	}
	entry := out.AddDirLookupEntry(e)
	if entry == nil {
		return false
	}
	if !validName(e.Name) { // . and .. among them: they have no node here
		return true
	}
	n := of.inode
	var child *Inode
	var errno syscall.Errno
	if l, ok := of.handle.(FileLookuper); ok {
		child, errno = l.Lookup(ctx, e.Name, entry)
	} else {
		child, errno = b.lookup(ctx, n, e.Name, entry)
	}
	if errno == 0 {
		child, errno = b.addEntry(n, e.Name, child, false, entry)
	}
	if errno != 0 { // the kernel looks the name up when it is wanted
		*entry = fuse.EntryOut{}
		return true
	}
	if child.mode != e.Mode&syscall.S_IFMT {
		out.FixMode(child.mode)
	}
	return true
}

func (b *rawBridge) ReleaseDir(in *fuse.ReleaseIn) {
	of := b.unregister(in.Fh)
	if of == nil {
		return
	}
	if r, ok := of.handle.(FileReleasedirer); ok {
		r.Releasedir(context.Background(), in.ReleaseFlags)
	}
}

func (b *rawBridge) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if s, ok := f.(FileFsyncdirer); ok {
			return s.Fsyncdir(ctx, in.FsyncFlags)
		}
		if s, ok := n.ops.(NodeFsyncer); ok {
			return s.Fsync(ctx, f, in.FsyncFlags)
		}
		return syscall.ENOTSUP
	})
}
