package fs

import (
	"context"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// parent returns the directory of a request that names something in it.
func (b *rawBridge) parent(id uint64, name string) (*Inode, fuse.Status) {
	p := b.node(id)
	switch {
	case p == nil:
		return nil, estale
	case p.dir == nil:
		return nil, fuse.ENOTDIR
	case !validName(name):
		return nil, fuse.EINVAL
	}
	return p, fuse.OK
}

func (b *rawBridge) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name == "." || name == ".." {
		return b.lookupDots(cancel, header, name, out)
	}
	p, st := b.parent(header.NodeId, name)
	if !st.Ok() {
		return st
	}
	ctx := p.context(cancel, header.Caller)
	child, errno := b.lookup(ctx, p, name, out)
	p.done(ctx)
	if errno == 0 {
		_, errno = b.addEntry(p, name, child, false, out)
	}
	if errno == syscall.ENOENT {
		return b.negative(out)
	}
	return fuse.Status(errno)
}

// negative answers that a name does not exist. With a timeout, the file
// system's or that of the options, that is an entry without a node.
func (b *rawBridge) negative(out *fuse.EntryOut) fuse.Status {
	out.NodeId = 0
	if out.EntryValid == 0 && out.EntryValidNsec == 0 {
		if b.negativeTimeout == 0 {
			return fuse.ENOENT
		}
		out.SetEntryTimeout(b.negativeTimeout)
	}
	return fuse.OK
}

func (b *rawBridge) lookup(ctx *fuse.Context, p *Inode, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	if l, ok := p.ops.(NodeLookuper); ok {
		return l.Lookup(ctx, name, out)
	}
	ch := p.GetChild(name)
	if ch == nil {
		return nil, syscall.ENOENT
	}
	b.entryAttr(ctx, ch, out)
	return ch, 0
}

// entryAttr asks a node for its attributes where no Lookup gave them.
func (b *rawBridge) entryAttr(ctx *fuse.Context, n *Inode, out *fuse.EntryOut) {
	g, ok := n.ops.(NodeGetattrer)
	if !ok {
		return
	}
	a := attrOuts.Get().(*fuse.AttrOut)
	*a = fuse.AttrOut{}
	if g.Getattr(ctx, nil, a) == 0 {
		out.Attr = a.Attr
	}
	attrOuts.Put(a)
}

// attrOuts are lent to methods, as the room for an answer always is.
var attrOuts = sync.Pool{New: func() any { return new(fuse.AttrOut) }}

// lookupDots answers the questions of an NFS server: what is the inode of
// this number, and where is it?
func (b *rawBridge) lookupDots(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n := b.node(header.NodeId)
	ctx := b.root.context(cancel, header.Caller)
	defer b.root.done(ctx)
	var errno syscall.Errno
	switch {
	case name == "." && n != nil:
		b.entryAttr(ctx, n, out)
	case name == ".":
		l, ok := b.root.ops.(NodeLookupNoder)
		if !ok {
			return estale
		}
		if n, errno = l.LookupNode(ctx, header.NodeId, out); errno != 0 {
			return fuse.Status(errno)
		}
		if n == nil || n.ino != header.NodeId {
			b.logf("LookupNode(%d) returned another inode", header.NodeId)
			return estale
		}
	case n == nil:
		return estale
	default:
		child := n
		if n, errno = b.lookupParent(ctx, child, out); errno != 0 {
			return fuse.Status(errno)
		}
	}
	_, errno = b.addEntry(nil, "", n, false, out)
	return fuse.Status(errno)
}

func (b *rawBridge) lookupParent(ctx *fuse.Context, child *Inode, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	l, ok := child.ops.(NodeLookupParenter)
	if !ok {
		if _, p := child.Parent(); p != nil {
			b.entryAttr(ctx, p, out)
			return p, 0
		}
		return nil, syscall.ESTALE
	}
	p, name, errno := l.LookupParent(ctx, out)
	if errno != 0 {
		return nil, errno
	}
	if p == nil || p.dir == nil || !validName(name) {
		b.logf("LookupParent of inode %s returned no directory and name", child.StableAttr())
		return nil, syscall.ESTALE
	}
	p.AddChild(name, child, true)
	return p, 0
}

func (b *rawBridge) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	p, st := b.parent(in.NodeId, name)
	if !st.Ok() {
		return st
	}
	m, ok := p.ops.(NodeMkdirer)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, in.Caller)
	child, errno := m.Mkdir(ctx, name, b.masked(p, in.Mode, in.Umask), out)
	p.done(ctx)
	if errno == 0 && child != nil && child.dir == nil {
		b.logf("Mkdir %q returned an inode that is not a directory", name)
		errno = syscall.EIO
	}
	return b.made(p, name, child, errno, out)
}

// masked returns the permissions of what is made in p: the caller's umask
// counts, which the kernel may have left to us, but not where an ACL of the
// directory stands in its place.
func (b *rawBridge) masked(p *Inode, mode, umask uint32) uint32 {
	if a, ok := p.ops.(aclDirectory); ok && b.options.EnableAcl && a.hasDefaultACL() {
		return mode
	}
	return mode &^ (umask & 0777)
}

// aclDirectory is a directory that may have a default ACL.
type aclDirectory interface{ hasDefaultACL() bool }

// made answers a request that was to make child.
func (b *rawBridge) made(p *Inode, name string, child *Inode, errno syscall.Errno, out *fuse.EntryOut) fuse.Status {
	if errno == 0 {
		_, errno = b.addEntry(p, name, child, true, out)
	}
	return fuse.Status(errno)
}

func (b *rawBridge) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	p, st := b.parent(in.NodeId, name)
	if !st.Ok() {
		return st
	}
	m, ok := p.ops.(NodeMknoder)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, in.Caller)
	child, errno := m.Mknod(ctx, name, b.masked(p, in.Mode, in.Umask), in.Rdev, out)
	p.done(ctx)
	return b.made(p, name, child, errno, out)
}

func (b *rawBridge) Symlink(cancel <-chan struct{}, header *fuse.InHeader, target string, name string, out *fuse.EntryOut) fuse.Status {
	p, st := b.parent(header.NodeId, name)
	if !st.Ok() {
		return st
	}
	s, ok := p.ops.(NodeSymlinker)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, header.Caller)
	child, errno := s.Symlink(ctx, target, name, out)
	p.done(ctx)
	return b.made(p, name, child, errno, out)
}

func (b *rawBridge) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	p, st := b.parent(in.NodeId, name)
	if !st.Ok() {
		return st
	}
	target := b.node(in.Oldnodeid)
	if target == nil {
		return estale
	}
	l, ok := p.ops.(NodeLinker)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, in.Caller)
	child, errno := l.Link(ctx, target.ops, name, out)
	p.done(ctx)
	if errno == 0 {
		_, errno = b.addEntry(p, name, child, false, out)
	}
	return fuse.Status(errno)
}

func (b *rawBridge) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	p, st := b.parent(in.NodeId, name)
	if !st.Ok() {
		return st
	}
	c, ok := p.ops.(NodeCreater)
	if !ok {
		return fuse.EROFS
	}
	ctx := p.context(cancel, in.Caller)
	child, f, flags, errno := c.Create(ctx, name, in.Flags, b.masked(p, in.Mode, in.Umask), &out.EntryOut)
	p.done(ctx)
	return b.created(p, name, child, f, flags, errno, out)
}

func (b *rawBridge) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	p := b.node(in.NodeId)
	if p == nil {
		return estale
	}
	t, ok := p.ops.(NodeTmpfiler)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, in.Caller)
	child, f, flags, errno := t.Tmpfile(ctx, in.Flags, b.masked(p, in.Mode, in.Umask), &out.EntryOut)
	p.done(ctx)
	return b.created(p, "", child, f, flags, errno, out)
}

func (b *rawBridge) created(p *Inode, name string, child *Inode, f FileHandle, flags uint32, errno syscall.Errno, out *fuse.CreateOut) fuse.Status {
	if errno != 0 {
		return fuse.Status(errno)
	}
	made := child
	child, errno = b.addEntry(p, name, made, true, &out.EntryOut)
	if errno != 0 {
		if made != nil && f != nil {
			made.releaseFile(context.Background(), f)
		}
		return fuse.Status(errno)
	}
	return b.opened(child, f, flags, &out.OpenOut)
}

func (b *rawBridge) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return b.remove(cancel, header, name, func(ctx *fuse.Context, p *Inode) syscall.Errno {
		if u, ok := p.ops.(NodeUnlinker); ok {
			return u.Unlink(ctx, name)
		}
		return 0
	})
}

func (b *rawBridge) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return b.remove(cancel, header, name, func(ctx *fuse.Context, p *Inode) syscall.Errno {
		if r, ok := p.ops.(NodeRmdirer); ok {
			return r.Rmdir(ctx, name)
		}
		return 0
	})
}

// remove answers a request that takes a name away, which op does in the file
// system.
func (b *rawBridge) remove(cancel <-chan struct{}, header *fuse.InHeader, name string, op func(ctx *fuse.Context, p *Inode) syscall.Errno) fuse.Status {
	p, st := b.parent(header.NodeId, name)
	if !st.Ok() {
		return st
	}
	ctx := p.context(cancel, header.Caller)
	errno := op(ctx, p)
	p.done(ctx)
	if errno != 0 {
		return fuse.Status(errno)
	}
	p.RmChild(name)
	return fuse.OK
}

func (b *rawBridge) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName string, newName string) fuse.Status {
	p, st := b.parent(in.NodeId, oldName)
	if !st.Ok() {
		return st
	}
	to, st := b.parent(in.Newdir, newName)
	if !st.Ok() {
		return st
	}
	r, ok := p.ops.(NodeRenamer)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := p.context(cancel, in.Caller)
	errno := r.Rename(ctx, oldName, to.ops, newName, in.Flags)
	p.done(ctx)
	switch {
	case errno != 0:
	case in.Flags&RENAME_EXCHANGE != 0:
		p.ExchangeChild(oldName, to, newName)
	default:
		p.MvChild(oldName, to, newName, true)
	}
	return fuse.Status(errno)
}
