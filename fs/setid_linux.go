package fs

import (
	"syscall"

	"golang.org/x/sys/unix"

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
func dropSetIDOf(fd int, by *fuse.Caller) syscall.Errno {
	var st unix.Statx_t
	if errno := sys.StatAt(fd, "", unix.STATX_MODE|unix.STATX_GID, &st); errno != 0 {
		return errno
	}
	mode := sys.WithoutSetID(uint32(st.Mode), st.Gid, by.Gid, by.Pid)
	if mode == uint32(st.Mode) {
		return 0
	}
	return sys.ChmodFD(fd, mode&07777)
}
