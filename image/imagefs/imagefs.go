// Package imagefs shows any image.Tree as a file system: the one place where
// fuse and storage meet. An [FS] answers a kernel's requests from the mapped
// metadata of a tree, and its reads from a storage.Reader.
//
// It keeps nothing per inode. The node id that the kernel holds is the
// inode's own number (see [nodes]), so that LOOKUP is a search in the
// directory, FORGET does nothing, and the memory of a mount does not grow
// with the files that are touched. An image does not change, so whatever the
// kernel has been told it may keep for ever: entries (also negative ones),
// attributes, symbolic links, directory listings and file pages. OPEN and
// OPENDIR are answered with ENOSYS, after which the kernel no longer sends
// them. A second look at anything therefore costs no request.
//
// That rules out FUSE passthrough, which is arranged at OPEN. With
// [Options].Passthrough files are opened instead: one whose bytes lie
// complete and in order in one local file is then read by the kernel itself.
// The kernel wants all opens of a file that are there at a time to go one
// way; fuse.Passthrough sees to that.
// The first way is better for the many small files of a system image, the
// second for few large ones that do not stay in memory.
//
// An FS has no locks; what runs at the same time is the tree's and the
// reader's concern, and both are safe for concurrent use.
package imagefs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Options of an FS. The zero value is the default.
type Options struct {
	// CacheTimeout is how long the kernel may believe entries and
	// attributes; 0 means for ever.
	CacheTimeout time.Duration
	// UID and GID, if not nil, are shown as the owner of everything.
	UID, GID *uint32
	// Observer, if not nil, is told of every READ.
	Observer Observer
	// OnError, if not nil, is told of every request that fails for another
	// reason than the caller's (a corrupt image, data that cannot be had).
	OnError func(op string, nid uint64, err error)
	// Looked, if not nil, is called now and then while inodes are looked at,
	// after some hundred of them, for who watches the memory that mapped
	// metadata takes. It may be called concurrently.
	Looked func()
	// NoXattrs says that the image has no extended attributes. The kernel
	// then stops asking for them, which it else does on every exec.
	NoXattrs bool
	// Passthrough, if not nil, opens files by it, see the package comment.
	Passthrough Passthrough
}

// Observer is told of reads. It is called concurrently, after the read.
type Observer interface {
	// Read says that n bytes of the file nid from off on were given out
	// after d, or that err happened.
	Read(nid uint64, off int64, n int, d time.Duration, err error)
}

// WaitObserver is what an Observer may be beside: one that is told of the
// data that somebody has to wait for.
type WaitObserver interface {
	// Waits says that somebody is about to wait for data of the file nid at
	// off. It must not wait itself.
	Waits(nid uint64, off int64)
	// Waited says that data, which is valid during the call only, was not at
	// hand when it was read from the file nid at off. It must not wait.
	Waited(nid uint64, off int64, data []byte)
}

// Passthrough gives the kernel files of its own to read. Implementations are
// safe for concurrent use.
type Passthrough interface {
	// Backing is called when the file nid is opened. It returns a local file
	// that has the same bytes from offset 0 on, which the caller closes; or
	// nil if there is none, or not yet. That there may be one some day is
	// what eligible says, always the same of one file; only for such files
	// is Closed called.
	Backing(nid uint64) (f *os.File, eligible bool)
	// Closed is called when one that had opened the file nid closes it.
	Closed(nid uint64)
}

// decider is what is used of fuse.Passthrough.
type decider interface {
	Open(node uint64, fd int, out *fuse.OpenOut) bool
	OpenOrdinary(node uint64, out *fuse.OpenOut)
	Close(node uint64)
}

// PresentReader is what a storage.Reader may be beside: one that can tell
// what is at hand from what has to be waited for.
type PresentReader interface {
	// ReadPresent is ReadExtents for data that is at hand. It never waits
	// for a network: where it would, done is false and p undefined.
	ReadPresent(p []byte, ext []storage.Extent) (done bool, err error)
}

// FS is a file system over a tree. It is made by New.
type FS struct {
	fuse.RawFileSystem // answers ENOSYS to all that is not answered here

	tree    image.Tree
	reader  storage.Reader
	present PresentReader // reader, if it is one
	waited  WaitObserver  // observer, if it is one
	ids     nodes
	opts    Options
	valid   uint64 // seconds of validity
	nsec    uint32
	stat    fuse.StatfsOut
	counts  counters
	looks   atomic.Uint32 // inodes looked at
	server  atomic.Pointer[fuse.Server]
	decide  decider     // set by Init, with Options.Passthrough
	openAll atomic.Bool // files are opened, see Options.Passthrough
}

// forever is the longest time in seconds that is safe in a kernel's jiffies.
const forever = 100 * 365 * 24 * 3600

// New returns a file system that shows tree with the bytes of r, which is used by
// several requests at once. Both stay the caller's, and are to be closed after the
// file system is unmounted.
func New(tree image.Tree, r storage.Reader, opts Options) *FS {
	f := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		tree:          tree,
		reader:        r,
		ids:           nodes{root: tree.Root()},
		opts:          opts,
		valid:         forever,
	}
	if t := opts.CacheTimeout; t > 0 {
		f.valid, f.nsec = uint64(t/time.Second), uint32(t%time.Second)
	}
	f.present, _ = r.(PresentReader)
	f.waited, _ = opts.Observer.(WaitObserver)
	f.stat = statfs(tree)
	f.openAll.Store(opts.Passthrough != nil)
	return f
}

// String returns the name that the file system goes by in logs.
func (f *FS) String() string { return "imagefs(" + f.tree.Info().Format + ")" }

// SetDebug does nothing: the server's own tracing shows all requests.
func (f *FS) SetDebug(bool) {}

// Init keeps the server.
func (f *FS) Init(s *fuse.Server) {
	if f.opts.Passthrough != nil {
		f.decide = s.Passthrough()
	}
	f.server.Store(s)
}

// Forget does nothing: no node is remembered.
func (f *FS) Forget(uint64, uint64) {}

// statfs derives the answer to STATFS from the image: it is full and
// read-only, and as large as its blobs are when unpacked.
func statfs(tree image.Tree) fuse.StatfsOut {
	info := tree.Info()
	bsize := uint64(info.BlockSize)
	if bsize == 0 {
		bsize = 4096
	}
	bytes := uint64(max(info.Size, 0))
	for _, b := range tree.Blobs() {
		bytes += uint64(max(b.UncompressedSize, 0))
	}
	return fuse.StatfsOut{
		Blocks:  (bytes + bsize - 1) / bsize,
		Files:   info.Inodes,
		Bsize:   uint32(bsize),
		Frsize:  uint32(bsize),
		NameLen: 255,
	}
}

// StatFs answers with the size of the image.
func (f *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = f.stat
	return fuse.OK
}

// status makes an errno of what a tree or a reader returned, and reports
// what the operator should know.
func (f *FS) status(op string, nid uint64, err error) fuse.Status {
	switch err { // the plain values first: they are the common ones
	case nil:
		return fuse.OK
	case fs.ErrNotExist:
		return fuse.ENOENT
	case image.ErrNoXattr:
		return fuse.ENOATTR
	}
	if e, ok := err.(syscall.Errno); ok {
		return fuse.Status(e)
	}
	if errors.Is(err, context.Canceled) {
		return fuse.EINTR
	}
	f.counts.errors.Add(1)
	if f.opts.OnError != nil {
		f.opts.OnError(op, nid, err)
	}
	var format *image.FormatError
	if errors.As(err, &format) {
		return statusCorrupt
	}
	return fuse.EIO
}
