package fs

import (
	"context"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

func (b *rawBridge) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := b.node(in.NodeId)
	if n == nil {
		return estale
	}
	o, ok := n.ops.(NodeOpener)
	if !ok {
		return fuse.ENOTSUP
	}
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 && in.Flags&syscall.O_TRUNC != 0 {
		if errno := b.dropSetID(ctx, n, nil); errno != 0 {
			return fuse.Status(errno)
		}
	}
	f, flags, errno := o.Open(ctx, in.Flags)
	if errno != 0 {
		return fuse.Status(errno)
	}
	return b.opened(n, f, flags, out)
}

// opened answers a request that opened f on n.
func (b *rawBridge) opened(n *Inode, f FileHandle, flags uint32, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = flags
	if f == nil {
		return fuse.OK
	}
	of := b.register(n, f)
	if of == nil {
		n.releaseFile(context.Background(), f)
		return fuse.Status(syscall.ENFILE)
	}
	out.Fh = of.id.Load()
	b.usePassthrough(of, out)
	return fuse.OK
}

// target finds node and handle of a request on an open file. A handle of 0 is
// an open without one; unknown ones, or those of other nodes, are EBADF.
func (b *rawBridge) target(node, fh uint64) (n *Inode, of *openFile, f FileHandle, st fuse.Status) {
	if fh != 0 {
		of = b.file(node, fh)
		if of == nil {
			return nil, nil, nil, fuse.EBADF
		}
		return of.inode, of, of.handle, fuse.OK
	}
	if n = b.node(node); n == nil {
		return nil, nil, nil, estale
	}
	return n, nil, nil, fuse.OK
}

// withFile calls op for a request on a node and perhaps a handle.
func (b *rawBridge) withFile(cancel <-chan struct{}, h *fuse.InHeader, fh uint64, op func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno) fuse.Status {
	n, of, f, st := b.target(h.NodeId, fh)
	if !st.Ok() {
		return st
	}
	defer of.put()
	ctx := n.context(cancel, h.Caller)
	defer n.done(ctx)
	return fuse.Status(op(ctx, n, f))
}

func (b *rawBridge) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, of, f, st := b.target(in.NodeId, in.Fh)
	if !st.Ok() {
		return nil, st
	}
	defer of.put()
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	var res fuse.ReadResult
	errno := syscall.ENOTSUP
	if r, ok := n.ops.(NodeReader); ok {
		res, errno = r.Read(ctx, f, buf, int64(in.Offset))
	} else if r, ok := f.(FileReader); ok {
		res, errno = r.Read(ctx, buf, int64(in.Offset))
	}
	return res, fuse.Status(errno)
}

func (b *rawBridge) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return b.write(cancel, in, data, nil)
}

func (b *rawBridge) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if len(data) == 1 {
		return b.write(cancel, in, data[0], nil)
	}
	return b.write(cancel, in, nil, data)
}

// write hands on data, or vec if that is not nil. ENOSYS for vec means that
// the file system only takes data in one piece.
func (b *rawBridge) write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte, vec [][]byte) (uint32, fuse.Status) {
	n, of, f, st := b.target(in.NodeId, in.Fh)
	if !st.Ok() {
		return 0, st
	}
	defer of.put()
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	off := int64(in.Offset)
	if a, ok := f.(appender); ok && a.onlyAppends() && (in.WriteFlags&fuse.WRITE_CACHE != 0 || in.Flags&syscall.O_APPEND == 0) {
		return 0, fuse.EPERM // it would be appended wherever it belongs
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if errno := b.dropSetID(ctx, n, f); errno != 0 {
			return 0, fuse.Status(errno)
		}
	}

	nw, one := n.ops.(NodeWriter)
	nv, many := n.ops.(NodeWritever)
	fw, fone := f.(FileWriter)
	fv, fmany := f.(FileWritever)
	var written uint32
	errno := syscall.ENOTSUP
	switch {
	case one && vec == nil:
		written, errno = nw.Write(ctx, f, data, off)
	case many:
		written, errno = nv.Writev(ctx, f, orOne(vec, data), off)
	case one:
		errno = syscall.ENOSYS
	case fone && vec == nil:
		written, errno = fw.Write(ctx, data, off)
	case fmany:
		written, errno = fv.Writev(ctx, orOne(vec, data), off)
	case vec != nil:
		errno = syscall.ENOSYS
	}
	return written, fuse.Status(errno)
}

// appender is a handle that may put what is written, whatever its offset, at
// the end of the file.
type appender interface{ onlyAppends() bool }

func orOne(vec [][]byte, data []byte) [][]byte {
	if vec == nil {
		return [][]byte{data}
	}
	return vec
}

func (b *rawBridge) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if o, ok := f.(ownerFlusher); ok {
			o.flushOwner(in.LockOwner)
		}
		if fl, ok := n.ops.(NodeFlusher); ok {
			return fl.Flush(ctx, f)
		}
		if fl, ok := f.(FileFlusher); ok {
			return fl.Flush(ctx)
		}
		return 0
	})
}

// ownerFlusher is a handle that keeps POSIX locks by owner: they end when the
// owner closes the file.
type ownerFlusher interface{ flushOwner(owner uint64) }

func (b *rawBridge) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if s, ok := n.ops.(NodeFsyncer); ok {
			return s.Fsync(ctx, f, in.FsyncFlags)
		}
		if s, ok := f.(FileFsyncer); ok {
			return s.Fsync(ctx, in.FsyncFlags)
		}
		return syscall.ENOTSUP
	})
}

func (b *rawBridge) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if errno := b.dropSetIDForUser(ctx, n, f); errno != 0 {
			return errno
		}
		if a, ok := n.ops.(NodeAllocater); ok {
			return a.Allocate(ctx, f, in.Offset, in.Length, in.Mode)
		}
		if a, ok := f.(FileAllocater); ok {
			return a.Allocate(ctx, in.Offset, in.Length, in.Mode)
		}
		return syscall.ENOTSUP
	})
}

func (b *rawBridge) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	n, of, f, st := b.target(in.NodeId, in.FhIn)
	if !st.Ok() {
		return 0, st
	}
	defer of.put()
	c, ok := n.ops.(NodeCopyFileRanger)
	if !ok {
		return 0, fuse.ENOTSUP
	}
	to, toFile, toHandle, st := b.target(in.NodeIdOut, in.FhOut)
	if !st.Ok() {
		return 0, st
	}
	defer toFile.put()
	ctx := n.context(cancel, in.Caller)
	defer n.done(ctx)
	if errno := b.dropSetIDForUser(ctx, to, toHandle); errno != 0 {
		return 0, fuse.Status(errno)
	}
	count, errno := c.CopyFileRange(ctx, f, in.OffIn, to, toHandle, in.OffOut, in.Len, in.Flags)
	return count, fuse.Status(errno)
}

func (b *rawBridge) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		var errno syscall.Errno
		if l, ok := n.ops.(NodeLseeker); ok {
			out.Offset, errno = l.Lseek(ctx, f, in.Offset, in.Whence)
			return errno
		}
		if l, ok := f.(FileLseeker); ok {
			out.Offset, errno = l.Lseek(ctx, in.Offset, in.Whence)
			return errno
		}
		var attr fuse.AttrOut
		if errno := b.getattr(ctx, n, f, &attr); errno != 0 {
			return errno
		}
		switch {
		case in.Whence != seekData && in.Whence != seekHole:
			return syscall.ENOTSUP
		case in.Offset >= attr.Size:
			return syscall.ENXIO
		case in.Whence == seekData:
			out.Offset = in.Offset
		default:
			out.Offset = attr.Size
		}
		return 0
	})
}

func (b *rawBridge) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		errno := syscall.ENOTTY
		if i, ok := n.ops.(NodeIoctler); ok {
			out.Result, errno = i.Ioctl(ctx, f, in.Cmd, in.Arg, inbuf, outbuf)
		} else if i, ok := f.(FileIoctler); ok {
			out.Result, errno = i.Ioctl(ctx, in.Cmd, in.Arg, inbuf, outbuf)
		}
		return errno
	})
}

func (b *rawBridge) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if l, ok := n.ops.(NodeGetlker); ok {
			return l.Getlk(ctx, f, in.Owner, &in.Lk, in.LkFlags, &out.Lk)
		}
		if l, ok := f.(FileGetlker); ok {
			return l.Getlk(ctx, in.Owner, &in.Lk, in.LkFlags, &out.Lk)
		}
		return syscall.ENOTSUP
	})
}

func (b *rawBridge) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if l, ok := n.ops.(NodeSetlker); ok {
			return l.Setlk(ctx, f, in.Owner, &in.Lk, in.LkFlags)
		}
		if l, ok := f.(FileSetlker); ok {
			return l.Setlk(ctx, in.Owner, &in.Lk, in.LkFlags)
		}
		return syscall.ENOTSUP
	})
}

func (b *rawBridge) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		if l, ok := n.ops.(NodeSetlkwer); ok {
			return l.Setlkw(ctx, f, in.Owner, &in.Lk, in.LkFlags)
		}
		if l, ok := f.(FileSetlkwer); ok {
			return l.Setlkw(ctx, in.Owner, &in.Lk, in.LkFlags)
		}
		return syscall.ENOTSUP
	})
}

func (b *rawBridge) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	n, f := b.node(in.NodeId), FileHandle(nil)
	if in.Fh != 0 {
		of := b.unregister(in.Fh)
		if of == nil {
			return
		}
		n, f = of.inode, of.handle
		defer b.released(of)
	}
	if n == nil {
		return
	}
	ctx := n.context(cancel, in.Caller)
	n.releaseFile(ctx, f)
	n.done(ctx)
}

// releaseFile gives a handle on n back to the file system.
func (n *Inode) releaseFile(ctx context.Context, f FileHandle) {
	if r, ok := n.ops.(NodeReleaser); ok {
		r.Release(ctx, f)
	} else if r, ok := f.(FileReleaser); ok {
		r.Release(ctx)
	}
}

// released ends what is left of a handle whose Release has been called.
func (b *rawBridge) released(of *openFile) {
	b.endPassthrough(of)
	if r, ok := of.handle.(recycler); ok && of.inode.pooled {
		r.recycle()
	}
}

// recycler is a handle that may be used for another open of a node of this
// package, once its Release has been called and nobody has it any more.
type recycler interface{ recycle() }
