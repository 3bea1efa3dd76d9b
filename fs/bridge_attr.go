package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

func (b *rawBridge) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	var of *openFile
	var f FileHandle
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		of = b.file(in.NodeId, in.Fh())
	}
	if of == nil {
		of = n.anyOpen()
	}
	if of != nil {
		f = of.handle
		defer of.put()
	}
	ctx := n.context(cancel, in.Caller)
	errno := b.getattr(ctx, n, f, out)
	n.done(ctx)
	return fuse.Status(errno)
}

func (b *rawBridge) getattr(ctx *fuse.Context, n *Inode, f FileHandle, out *fuse.AttrOut) (errno syscall.Errno) {
	if g, ok := n.ops.(NodeGetattrer); ok {
		errno = g.Getattr(ctx, f, out)
	} else if g, ok := f.(FileGetattrer); ok {
		errno = g.Getattr(ctx, out)
	}
	if errno == 0 {
		b.finishAttrOut(n, out)
	}
	return errno
}

func (b *rawBridge) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	var f FileHandle
	if fh, ok := in.GetFh(); ok && fh != 0 {
		of := b.file(in.NodeId, fh)
		if of == nil {
			return fuse.EBADF
		}
		defer of.put()
		f = of.handle
	}
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 && in.Valid&fuse.FATTR_SIZE != 0 {
		if errno := b.dropSetID(ctx, n, f); errno != 0 {
			return fuse.Status(errno)
		}
	}
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		if errno := b.dropSetIDForUser(ctx, n, f); errno != 0 {
			return fuse.Status(errno)
		}
	}
	errno := syscall.ENOTSUP
	if s, ok := n.ops.(NodeSetattrer); ok {
		errno = s.Setattr(ctx, f, in, out)
	} else if s, ok := f.(FileSetattrer); ok {
		errno = s.Setattr(ctx, in, out)
	}
	if errno == 0 {
		b.finishAttrOut(n, out)
	}
	return fuse.Status(errno)
}

func (b *rawBridge) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	if a, ok := n.ops.(NodeAccesser); ok {
		return fuse.Status(a.Access(ctx, in.Mask))
	}
	var out fuse.AttrOut
	if errno := b.getattr(ctx, n, nil, &out); errno != 0 {
		return fuse.Status(errno)
	}
	if !mayAccess(&in.Caller, &out.Attr, in.Mask) {
		return fuse.EACCES
	}
	return fuse.OK
}

func (b *rawBridge) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	n := b.node(header.NodeId)
	if n == nil {
		return nil, estale
	}
	r, ok := n.ops.(NodeReadlinker)
	if !ok {
		return nil, fuse.ENOTSUP
	}
	ctx := n.context(cancel, header.Caller)
	target, errno := r.Readlink(ctx)
	n.done(ctx)
	return target, fuse.Status(errno)
}

func (b *rawBridge) StatFs(cancel <-chan struct{}, header *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	n := b.node(header.NodeId)
	if n == nil {
		return estale
	}
	s, ok := n.ops.(NodeStatfser)
	if !ok {
		return fuse.OK
	}
	ctx := n.context(cancel, header.Caller)
	errno := s.Statfs(ctx, out)
	n.done(ctx)
	return fuse.Status(errno)
}

func (b *rawBridge) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	n := b.node(header.NodeId)
	if n == nil {
		return 0, estale
	}
	x, ok := n.ops.(NodeGetxattrer)
	if !ok {
		return 0, fuse.Status(ENOATTR)
	}
	ctx := n.context(cancel, header.Caller)
	size, errno := x.Getxattr(ctx, attr, dest)
	n.done(ctx)
	return size, fuse.Status(errno)
}

func (b *rawBridge) ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n := b.node(header.NodeId)
	if n == nil {
		return 0, estale
	}
	x, ok := n.ops.(NodeListxattrer)
	if !ok {
		return 0, fuse.OK
	}
	ctx := n.context(cancel, header.Caller)
	size, errno := x.Listxattr(ctx, dest)
	n.done(ctx)
	return size, fuse.Status(errno)
}

func (b *rawBridge) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	x, ok := n.ops.(NodeSetxattrer)
	if !ok {
		return fuse.Status(ENOATTR)
	}
	ctx := n.context(cancel, in.Caller)
	errno := x.Setxattr(ctx, attr, data, in.Flags)
	// An ACL counts as a change of mode by somebody who is not of the group.
	if errno == 0 && in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
		errno = b.changeMode(ctx, n, nil, func(a *fuse.Attr) uint32 { return a.Mode &^ syscall.S_ISGID })
	}
	n.done(ctx)
	return fuse.Status(errno)
}

func (b *rawBridge) RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string) fuse.Status {
	n := b.node(header.NodeId)
	if n == nil {
		return estale
	}
	x, ok := n.ops.(NodeRemovexattrer)
	if !ok {
		return fuse.Status(ENOATTR)
	}
	ctx := n.context(cancel, header.Caller)
	errno := x.Removexattr(ctx, attr)
	n.done(ctx)
	return fuse.Status(errno)
}
