package fs

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// LoopbackRoot is a directory of this machine shown as a file system.
// [NewLoopbackRoot] makes the usual one; fill in a LoopbackRoot to have nodes
// of another type, or to have a loopback inside another tree.
//
// Files are reached through descriptors of the directories they are in, one
// name at a time, never through a path. So what happens behind the file
// system's back, renames and symbolic links put in the place of directories
// among them, cannot lead it out of its root; names may be as long, and
// directories as deep, as the file system below allows.
//
// It serves the whole of POSIX if the server runs as root: new files belong
// to the caller. For the permissions of the files below to count, mount with
// the option default_permissions.
type LoopbackRoot struct {
	// Path is the directory.
	Path string

	// Dev is the device number of Path. It keeps inode numbers as they are
	// on that device, and makes them distinct on those mounted below it.
	Dev uint64

	// NewNode makes the nodes, if it is set.
	//
	// Deprecated: implement [NodeWrapChilder].
	NewNode func(rootData *LoopbackRoot, parent *Inode, name string, st *syscall.Stat_t) InodeEmbedder

	// RootNode is the node of Path. It has to be set if that is not the
	// root of the mount.
	RootNode InodeEmbedder

	// NoPassthrough keeps the kernel from reading and writing files by
	// itself, which it otherwise does where it can.
	NoPassthrough bool

	once sync.Once
	open loopbackState
}

// LoopbackNode is a node of a loopback file system. Types that embed it, or a
// pointer to it, inherit all operations.
type LoopbackNode struct {
	Inode

	// RootData is the file system that the node is part of.
	RootData *LoopbackRoot

	dirFD dirDescriptor
	locks atomic.Pointer[lockOwners]
	last  lastOpen
}

func (n *LoopbackNode) loopbackNode() *LoopbackNode { return n }

// loopbackEmbedder is a node that is, or embeds, a LoopbackNode.
type loopbackEmbedder interface {
	InodeEmbedder
	loopbackNode() *LoopbackNode
}

// keepsNoContext reports whether contexts may be lent to a node: the types of
// this package use them for the call only.
func keepsNoContext(ops InodeEmbedder) bool {
	switch n := ops.(type) {
	case *LoopbackNode:
		return n.RootData != nil && n.RootData.NewNode == nil
	case *MemRegularFile, *MemSymlink, *Inode:
		return true
	}
	return false
}
