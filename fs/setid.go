package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// With HANDLE_KILLPRIV_V2 the kernel leaves it to the file system to take the
// set-id bits from a file that is written to, and in turn stops asking for
// security.capability before each WRITE. It marks the requests of callers who
// may not keep the bits, but for FALLOCATE, COPY_FILE_RANGE and changes of owner,
// for which the user decides. A file system below removes capabilities by itself.

// setIDDropper is a node or a handle that takes the bits away at little cost.
type setIDDropper interface {
	dropSetID(by *fuse.Caller) syscall.Errno
}

// dropSetID takes the set-id bits from n, which is about to be changed.
func (b *rawBridge) dropSetID(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
	if n.mode != syscall.S_IFREG {
		return 0
	}
	if d, ok := f.(setIDDropper); ok {
		return d.dropSetID(&ctx.Caller)
	}
	if d, ok := n.ops.(setIDDropper); ok {
		return d.dropSetID(&ctx.Caller)
	}
	return b.dropSetIDByMode(ctx, n, f)
}

// dropSetIDByMode is dropSetID with the methods that any node has.
func (b *rawBridge) dropSetIDByMode(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
	return b.changeMode(ctx, n, f, func(a *fuse.Attr) uint32 { return sys.WithoutSetID(a.Mode, a.Gid, ctx.Gid, ctx.Pid) })
}

// changeMode gives n the mode that to returns for its attributes.
func (b *rawBridge) changeMode(ctx *fuse.Context, n *Inode, f FileHandle, to func(*fuse.Attr) uint32) syscall.Errno {
	var out fuse.AttrOut
	if g, ok := n.ops.(NodeGetattrer); ok {
		if errno := g.Getattr(ctx, f, &out); errno != 0 {
			return errno
		}
	}
	mode := to(&out.Attr)
	if mode == out.Mode {
		return 0
	}
	s, ok := n.ops.(NodeSetattrer)
	if !ok {
		return syscall.EPERM
	}
	var in fuse.SetAttrIn
	in.Valid, in.Mode = fuse.FATTR_MODE, mode&07777
	return s.Setattr(ctx, f, &in, &out)
}

// dropSetIDForUser is dropSetID for requests that the kernel does not mark.
func (b *rawBridge) dropSetIDForUser(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
	if !b.killPriv || ctx.Uid == 0 {
		return 0
	}
	return b.dropSetID(ctx, n, f)
}

// staysFresh reports whether the kernel has to ask for the attributes of a
// file each time. A set-id bit goes by a write that the kernel itself may do
// (passthrough), and it would go on to run the program with it.
func (b *rawBridge) staysFresh(mode uint32) bool {
	return b.killPriv && mode&syscall.S_IFMT == syscall.S_IFREG && mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}
