package fs

import (
	"context"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// MemRegularFile is a file whose bytes are in memory. Data and Attr may be
// set before the node is used; afterwards they belong to the node.
type MemRegularFile struct {
	Inode

	mu   sync.Mutex
	Data []byte
	Attr fuse.Attr
}

// maxMemFile bounds what a caller can make a MemRegularFile allocate at once.
const maxMemFile = 1 << 32

// resize sets the length of Data; new bytes are zero. mu is held.
func (f *MemRegularFile) resize(size uint64) syscall.Errno {
	switch {
	case size > maxMemFile:
		return syscall.EFBIG
	case size <= uint64(len(f.Data)):
		f.Data = f.Data[:size]
	case size <= uint64(cap(f.Data)):
		old := len(f.Data)
		f.Data = f.Data[:size]
		clear(f.Data[old:])
	default:
		// grow by a quarter, so that appending does not copy each time
		d := make([]byte, size, size+size/4)
		copy(d, f.Data)
		f.Data = d
	}
	return 0
}

// Open gives no handle, and lets the kernel keep its cache.
func (f *MemRegularFile) Open(ctx context.Context, flags uint32) (fh FileHandle, fuseFlags uint32, errno syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, OK
}

// Read reads from Data. The result has its own copy if the bytes may change
// while the reply is being sent.
func (f *MemRegularFile) Read(ctx context.Context, fh FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 {
		return nil, syscall.EINVAL
	}
	n := copy(dest, f.Data[min(off, int64(len(f.Data))):])
	return fuse.ReadResultData(dest[:n]), OK
}

// Write writes to Data, which grows as needed.
func (f *MemRegularFile) Write(ctx context.Context, fh FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if end := uint64(off) + uint64(len(data)); end > uint64(len(f.Data)) {
		if errno := f.resize(end); errno != 0 {
			return 0, errno
		}
	}
	return uint32(copy(f.Data[off:], data)), 0
}

// Allocate makes the file at least off+size long, unless mode keeps the size.
func (f *MemRegularFile) Allocate(ctx context.Context, fh FileHandle, off uint64, size uint64, mode uint32) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch end := off + size; {
	case end < off:
		return syscall.EFBIG
	case mode&^fallocKeepSize != 0:
		return syscall.EOPNOTSUPP
	case mode&fallocKeepSize != 0 || end <= uint64(len(f.Data)):
		return 0
	default:
		return f.resize(end)
	}
}

const fallocKeepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)

// Getattr gives Attr with the length of Data.
func (f *MemRegularFile) Getattr(ctx context.Context, fh FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	out.Attr = f.Attr
	out.Size = uint64(len(f.Data))
	return OK
}

// Setattr changes the size; other changes are accepted and have no effect.
func (f *MemRegularFile) Setattr(ctx context.Context, fh FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		if errno := f.resize(size); errno != 0 {
			return errno
		}
	}
	out.Attr = f.Attr
	out.Size = uint64(len(f.Data))
	return OK
}

// Flush has nothing to do.
func (f *MemRegularFile) Flush(ctx context.Context, fh FileHandle) syscall.Errno { return 0 }

// MemSymlink is a symbolic link with its target in memory.
type MemSymlink struct {
	Inode
	Attr fuse.Attr
	Data []byte // target
}

// Readlink returns Data.
func (l *MemSymlink) Readlink(ctx context.Context) ([]byte, syscall.Errno) { return l.Data, OK }

// Getattr gives Attr, with the length of Data as the size.
func (l *MemSymlink) Getattr(ctx context.Context, fh FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Attr = l.Attr
	out.Size = uint64(len(l.Data))
	return OK
}
