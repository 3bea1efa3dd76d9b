package fs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// plainLoopback reports whether the root is a loopback whose nodes nobody has
// changed.
func (b *rawBridge) plainLoopback() bool {
	_, ok := b.root.ops.(*LoopbackNode)
	return ok && b.root.pooled
}

func (n *LoopbackNode) dropSetID(by *fuse.Caller) syscall.Errno {
	return n.withFD(func(fd int) syscall.Errno { return dropSetIDOf(fd, by) })
}

func (f *LoopbackFile) dropSetID(by *fuse.Caller) syscall.Errno {
	return f.withFD(func(fd int) syscall.Errno { return dropSetIDOf(fd, by) })
}

// dropSetIDOf takes the set-id bits from the file of a descriptor.
func dropSetIDOf(fd int, by *fuse.Caller) syscall.Errno { return sys.DropSetID(fd, by.Gid, by.Pid) }
