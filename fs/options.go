package fs

import (
	"context"
	"fmt"
	"log"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// Options are the settings of a file system made of nodes. The zero value is
// usable: nothing is cached by the kernel beyond one request.
type Options struct {
	// MountOptions are handed to fuse.NewServer by Mount.
	fuse.MountOptions

	// EntryTimeout is how long the kernel may keep a name without asking
	// again, where the file system's answer has no timeout of its own.
	// nil means 0.
	EntryTimeout *time.Duration

	// AttrTimeout is the same for attributes.
	AttrTimeout *time.Duration

	// NegativeTimeout is how long the kernel may remember that a name does
	// not exist, where the answer has no timeout of its own. nil: it is not
	// remembered.
	NegativeTimeout *time.Duration

	// FirstAutomaticIno is the first of the inode numbers given to nodes
	// whose StableAttr.Ino is 0. 0 means 1<<63.
	FirstAutomaticIno uint64

	// OnAdd is called once the root is set up, instead of its own
	// [NodeOnAdder].
	OnAdd func(ctx context.Context)

	// NullPermissions leaves permission bits of 0 as they are. Otherwise
	// they are shown as 0755 for directories and 0644 for all else.
	NullPermissions bool

	// UID and GID replace owner 0 in attributes, unless they are 0.
	UID uint32
	GID uint32

	// AllUID and AllGID are shown as the owner of everything if they are not
	// nil, whatever a file system says.
	AllUID, AllGID *uint32

	// ServerCallbacks takes the notifications of a tree that has no server:
	// for tests. With a server it is not used.
	ServerCallbacks ServerCallbacks

	// Logger is told of what looks wrong but cannot be answered with an
	// error. nil: such things are not told. It is not the Logger of
	// MountOptions.
	Logger *log.Logger

	// RootStableAttr sets inode number and generation of the root. Its Mode
	// is not used.
	RootStableAttr *StableAttr

	// ExternalNodeID makes StableAttr.Ino the node id as well, as an NFS
	// export needs. The file system then has to see to it that a number
	// that is used again gets another Gen.
	ExternalNodeID bool

	// MaxInodes bounds how many inodes the kernel keeps cached: beyond it
	// the kernel is asked to forget inodes which were not looked up of late
	// and are not in use. It is a target, as what is in use stays. 0: the
	// kernel's own memory pressure decides.
	MaxInodes int
}

// ServerCallbacks are the notifications that nodes send to the kernel;
// *fuse.Server has them.
type ServerCallbacks interface {
	DeleteNotify(parent uint64, child uint64, name string) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
	InodeNotify(node uint64, off int64, length int64) fuse.Status
	InodeRetrieveCache(node uint64, offset int64, dest []byte) (n int, st fuse.Status)
	InodeNotifyStoreCache(node uint64, offset int64, data []byte) fuse.Status
}

// StableAttr is what never changes in the life of an inode. Two inodes with
// equal StableAttr are one inode: this is how a file gets several names.
type StableAttr struct {
	// Mode has the type of the inode in its S_IFMT bits; the others are
	// dropped. 0 means S_IFREG.
	Mode uint32

	// Ino is the inode number, as stat shows it, unique among the inodes
	// that live at a time. 0 asks for an automatic one. All ones is
	// reserved.
	Ino uint64

	// Gen tells apart inodes that have had the same number one after
	// another.
	Gen uint64
}

// Reserved reports whether the inode number is one that a file system must
// not use.
func (i *StableAttr) Reserved() bool { return i.Ino == ^uint64(0) }

// String returns the attributes in the form "i12 g1 (dir)".
func (a StableAttr) String() string {
	return fmt.Sprintf("i%d g%d (%s)", a.Ino, a.Gen, typeName(a.Mode))
}

func typeName(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return "reg"
	case syscall.S_IFDIR:
		return "dir"
	case syscall.S_IFLNK:
		return "lnk"
	case syscall.S_IFIFO:
		return "fifo"
	case syscall.S_IFSOCK:
		return "sock"
	case syscall.S_IFCHR:
		return "chr"
	case syscall.S_IFBLK:
		return "blk"
	}
	return "?"
}
