package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// Statx answers statx(2) where the kernel asks for it.
func (b *rawBridge) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return b.withFile(cancel, &in.InHeader, in.Fh, func(ctx *fuse.Context, n *Inode, f FileHandle) syscall.Errno {
		errno := syscall.ENOSYS
		if s, ok := n.ops.(NodeStatxer); ok {
			errno = s.Statx(ctx, f, in.SxFlags, in.SxMask, out)
		} else if s, ok := f.(FileStatxer); ok {
			errno = s.Statx(ctx, in.SxFlags, in.SxMask, out)
		}
		if errno == 0 {
			b.finishStatx(n, out)
		}
		return errno
	})
}

func (b *rawBridge) finishStatx(n *Inode, out *fuse.StatxOut) {
	out.Ino = n.ino
	out.Mode = out.Mode&07777 | uint16(n.mode)
	if out.Mode&07777 == 0 && !b.options.NullPermissions {
		out.Mode |= uint16(defaultPermissions(n.mode))
	}
	if out.Nlink == 0 {
		out.Nlink = n.linkCount()
	}
	out.Uid, out.Gid = b.owner(out.Uid, out.Gid)
	if out.Blksize == 0 {
		a := fuse.Attr{Size: out.Size, Blocks: out.Blocks}
		setBlocks(&a)
		out.Blksize, out.Blocks = a.Blksize, a.Blocks
	}
	if b.attrTimeout != 0 && out.Timeout() == 0 && !b.staysFresh(uint32(out.Mode)) {
		out.SetTimeout(b.attrTimeout)
	}
}
