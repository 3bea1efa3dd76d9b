package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// mayAccess checks the permission bits as the kernel does for a file system
// without ACLs. mask is made of R_OK, W_OK, X_OK.
func mayAccess(c *fuse.Caller, a *fuse.Attr, mask uint32) bool {
	mask &= 7
	perm := a.Mode & 0777
	if c.Uid == 0 { // all, but files are run only if somebody may
		return mask&fuse.X_OK == 0 || perm&0111 != 0 || a.Mode&syscall.S_IFMT == syscall.S_IFDIR
	}
	switch {
	case c.Uid == a.Uid:
		perm >>= 6
	case c.Gid == a.Gid:
		perm >>= 3
	case (perm>>3)&mask != perm&mask && sys.InGroup(c.Pid, a.Gid):
		perm >>= 3
	}
	return perm&mask == mask
}

// setBlocks derives the block count from the size where a file system gives
// no block size.
func setBlocks(a *fuse.Attr) {
	const blksize = 4096
	if a.Blksize != 0 {
		return
	}
	a.Blksize = blksize
	if a.Blocks == 0 {
		a.Blocks = (a.Size/blksize + min(1, a.Size%blksize)) * (blksize / 512)
	}
}
