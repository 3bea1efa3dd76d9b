package passthrough

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// This process may keep the set-id bits of files that it writes to, so it takes
// them away where a request of an ordinary user says so (HANDLE_KILLPRIV_V2).
// FALLOCATE, COPY_FILE_RANGE and changes of owner do not say; there the user
// decides. Capabilities go by themselves.

// ClearsSetID says that a union need not do it.
func (f *FS) ClearsSetID() bool { return true }

// dropSetID takes the set-id bits from the file of a descriptor, which is about
// to be changed.
func dropSetID(fd int, by *fuse.Caller) syscall.Errno { return sys.DropSetID(fd, by.Gid, by.Pid) }

func dropSetIDForUser(fd int, by *fuse.Caller) syscall.Errno {
	if by.Uid == 0 {
		return 0
	}
	return dropSetID(fd, by)
}

// hasSetID reports whether a mode is that of a regular file with set-id bits.
// The kernel may not keep such attributes: the bits go by a write that the
// kernel does without asking, and it would go on to run the program with them.
func hasSetID(mode uint16) bool {
	return mode&syscall.S_IFMT == syscall.S_IFREG && mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}

// truncateBy is truncate in the name of a caller who may not keep set-id bits,
// if kill says so.
func (f *FS) truncateBy(n *node, size int64, kill bool, by *fuse.Caller) syscall.Errno {
	if kill {
		fd, errno := f.use(n)
		if errno != 0 {
			return errno
		}
		errno = dropSetID(fd, by)
		n.fd.Put()
		if errno != 0 {
			return errno
		}
	}
	return f.truncate(n, size)
}
