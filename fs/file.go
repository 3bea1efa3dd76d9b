package fs

import (
	"context"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// FileHandle is what a file was opened to: any value, which usually has some
// of the File… interfaces. Where node and handle can answer the same request,
// the node is asked.
//
// A handle is of use where the storage behind needs one (an *os.File), and
// where each open sees contents of its own, like those of /proc/interrupts;
// such a file is opened with FOPEN_DIRECT_IO.
type FileHandle any

// FileGetattrer is [NodeGetattrer] of a handle.
type FileGetattrer interface {
	Getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno
}

// FileStatxer is [NodeStatxer] of a handle.
type FileStatxer interface {
	Statx(ctx context.Context, flags uint32, mask uint32, out *fuse.StatxOut) syscall.Errno
}

// FileSetattrer is [NodeSetattrer] of a handle.
type FileSetattrer interface {
	Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno
}

// FileReader is [NodeReader] of a handle.
type FileReader interface {
	Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno)
}

// FileWriter is [NodeWriter] of a handle.
type FileWriter interface {
	Write(ctx context.Context, data []byte, off int64) (written uint32, errno syscall.Errno)
}

// FileWritever is [NodeWritever] of a handle.
type FileWritever interface {
	Writev(ctx context.Context, data [][]byte, off int64) (written uint32, errno syscall.Errno)
}

// FileFlusher is [NodeFlusher] of a handle.
type FileFlusher interface {
	Flush(ctx context.Context) syscall.Errno
}

// FileFsyncer is [NodeFsyncer] of a handle.
type FileFsyncer interface {
	Fsync(ctx context.Context, flags uint32) syscall.Errno
}

// FileReleaser is [NodeReleaser] of a handle.
type FileReleaser interface {
	Release(ctx context.Context) syscall.Errno
}

// FileAllocater is [NodeAllocater] of a handle.
type FileAllocater interface {
	Allocate(ctx context.Context, off uint64, size uint64, mode uint32) syscall.Errno
}

// FileLseeker is [NodeLseeker] of a handle.
type FileLseeker interface {
	Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno)
}

// FileGetlker is [NodeGetlker] of a handle.
type FileGetlker interface {
	Getlk(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32, out *fuse.FileLock) syscall.Errno
}

// FileSetlker is [NodeSetlker] of a handle.
type FileSetlker interface {
	Setlk(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno
}

// FileSetlkwer is [NodeSetlkwer] of a handle.
type FileSetlkwer interface {
	Setlkw(ctx context.Context, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno
}

// FileIoctler is [NodeIoctler] of a handle.
type FileIoctler interface {
	Ioctl(ctx context.Context, cmd uint32, arg uint64, input []byte, output []byte) (result int32, errno syscall.Errno)
}

// FilePassthroughFder is a handle on a real file which the kernel may read
// and write by itself. It is asked once, when it is opened; false means no.
// All handles of an inode that are open at a time share the file of the
// first. Where the kernel cannot do it, requests come as ever.
type FilePassthroughFder interface {
	PassthroughFd() (int, bool)
}

// FileReaddirenter is a directory handle that is read: nil is the end. The
// entry may be reused at the next call. An entry with Off 0 gets its position
// as offset.
type FileReaddirenter interface {
	Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno)
}

// FileSeekdirer is a directory handle that goes on behind the entry whose Off
// was off; 0 is the start.
type FileSeekdirer interface {
	Seekdir(ctx context.Context, off uint64) syscall.Errno
}

// FileReleasedirer is a directory handle that is told of its end.
type FileReleasedirer interface {
	Releasedir(ctx context.Context, releaseFlags uint32)
}

// FileFsyncdirer is a directory handle that makes names durable.
type FileFsyncdirer interface {
	Fsyncdir(ctx context.Context, flags uint32) syscall.Errno
}

// FileLookuper is a directory handle that looks up the name which it just
// listed, instead of [NodeLookuper], when the kernel wants attributes with
// the list. An entry may also not be looked up, where a reply ends.
type FileLookuper interface {
	Lookup(ctx context.Context, name string, out *fuse.EntryOut) (child *Inode, errno syscall.Errno)
}
