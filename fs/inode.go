package fs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// Inode is what a node embeds: its place in the tree and what the kernel
// knows of it. An Inode is made part of a file system by NewInode,
// NewPersistentInode or, for the root, by NewNodeFS; it must not be copied.
// Before that only Operations-free methods may be called.
//
// All methods are safe for concurrent use.
type Inode struct {
	ops    InodeEmbedder
	bridge *rawBridge
	dir    *directory // nil unless a directory

	// Never changes once ops is set.
	ino, gen uint64
	mode     uint32 // S_IFMT bits

	pooled bool // ops keeps no context beyond a call: it may be lent one

	flags inodeFlags // guarded by mu, as is all below
	kids  uint32     // number of children; those change under dir.mu as well

	told atomic.Uint32 // of a loopback: when the kernel got name and attributes; not guarded

	mu      sync.Mutex
	id      uint64    // node id while the kernel knows it, else 0
	lookups uint64    // references that the kernel has
	link    link      // the name that came last
	more    *[]link   // the others of a file with several names
	files   *openFile // open handles, most recent first
}

// link is a name of an inode.
type link struct {
	parent *Inode // nil: no link
	name   string
}

type inodeFlags uint8

const (
	persistent inodeFlags = 1 << iota
	alive                 // there has been a reason to keep the inode, and there is
	touched               // looked up since the last round of pruning
)

// embed makes types that embed an Inode InodeEmbedders.
func (n *Inode) embed() *Inode { return n }

// EmbeddedInode returns n.
func (n *Inode) EmbeddedInode() *Inode { return n }

// Operations returns the node that n is embedded in.
func (n *Inode) Operations() InodeEmbedder { return n.ops }

// StableAttr returns what never changes in the inode.
func (n *Inode) StableAttr() StableAttr {
	return StableAttr{Mode: n.mode, Ino: n.ino, Gen: n.gen}
}

// Mode returns the type of the inode, S_IFDIR for example.
func (n *Inode) Mode() uint32 { return n.mode }

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.mode == syscall.S_IFDIR }

// Root returns the root of the file system that n is part of.
func (n *Inode) Root() *Inode { return n.bridge.root }

// IsRoot reports whether n is the root.
func (n *Inode) IsRoot() bool { return n.bridge != nil && n.bridge.root == n }

// String describes n for people: identity and children.
func (n *Inode) String() string {
	var names []string
	for name, ch := range n.Children() {
		names = append(names, fmt.Sprintf("%q=%s", name, ch.StableAttr()))
	}
	slices.Sort(names)
	return fmt.Sprintf("%s: {%s}", n.StableAttr(), strings.Join(names, " "))
}

// Forgotten reports whether neither the kernel nor the tree knows n. It may be
// true of an inode that has just been made and is on its way to the tree.
//
// Deprecated: implement [NodeOnForgetter].
func (n *Inode) Forgotten() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups == 0 && n.link.parent == nil && n.flags&persistent == 0
}

// NewInode returns an inode for node, which the kernel decides to keep or to
// forget. If n is a [NodeWrapChilder] the inode is the wrapper's. The inode is
// not yet a child of n: what a method returns to the library, or what is
// given to AddChild, becomes one. When it is returned and the kernel knows an
// inode with the same id, that one is used in its place.
func (n *Inode) NewInode(ctx context.Context, node InodeEmbedder, id StableAttr) *Inode {
	return n.newInode(ctx, node, id, false)
}

// NewPersistentInode is NewInode for an inode that stays until
// ForgetPersistent or RmAllChildren drops it, whether the kernel knows it or
// not.
func (n *Inode) NewPersistentInode(ctx context.Context, node InodeEmbedder, id StableAttr) *Inode {
	return n.newInode(ctx, node, id, true)
}

func (n *Inode) newInode(ctx context.Context, ops InodeEmbedder, id StableAttr, persist bool) *Inode {
	if w, ok := n.ops.(NodeWrapChilder); ok {
		ops = w.WrapChild(ctx, ops)
	}
	return n.bridge.newInode(ctx, ops, id, persist)
}

// GetChild returns the child in the tree of that name, or nil.
func (n *Inode) GetChild(name string) *Inode {
	if n.dir == nil {
		return nil
	}
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	return n.dir.get(name)
}

// Children returns a copy of the names and children in the tree.
func (n *Inode) Children() map[string]*Inode {
	return maps.Collect(func(yield func(string, *Inode) bool) {
		for _, e := range n.childList() {
			if !yield(e.name, e.node) {
				return
			}
		}
	})
}

// childList returns a copy of the children in the order in which they came.
func (n *Inode) childList() []dirent {
	if n.dir == nil {
		return nil
	}
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	list := make([]dirent, 0, n.dir.live)
	for _, e := range n.dir.entries {
		if e.node != nil {
			list = append(list, e)
		}
	}
	return list
}

// Parent returns the name that n got last and the directory of that name, or
// "" and nil if n is the root or has no name left.
func (n *Inode) Parent() (string, *Inode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link.name, n.link.parent
}

// olderLinks returns the names of n but for the last.
func (n *Inode) olderLinks() []link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.more == nil {
		return nil
	}
	return slices.Clone(*n.more)
}

// Path returns the names from root down to n with slashes between them; with
// a nil root, from as far up as the tree goes. If n is not below root, the
// path begins with a name that does not exist. As other names may change at
// any time, a path is only good for showing.
func (n *Inode) Path(root *Inode) string {
	var names []string
	p := n
	for p != nil && p != root {
		name, parent := p.Parent()
		if parent == nil {
			break
		}
		names = append(names, name)
		p = parent
	}
	if root != nil && p != root {
		if b := n.bridge; b != nil {
			b.logf("Path: inode %s is not below %s", n.StableAttr(), root.StableAttr())
		}
		names = append(names, fmt.Sprintf(deletedName+".%d", n.ino))
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// deletedName begins the path of an inode that has none. Programs written for
// go-fuse look for the prefix.
const deletedName = ".go-fuse.deleted"

// NotifyContent makes the kernel drop the cached attributes of n, and its
// cached data from off on, sz bytes long (0 or less: to the end; a negative
// off: attributes only). It must not be called with a lock held that a method
// of this file system takes.
func (n *Inode) NotifyContent(off, sz int64) syscall.Errno {
	return n.notify(func(s ServerCallbacks, id uint64) fuse.Status { return s.InodeNotify(id, off, sz) })
}

// NotifyEntry makes the kernel forget what it knows of a name in n, so that it
// looks it up at the next use. For locks see NotifyContent.
func (n *Inode) NotifyEntry(name string) syscall.Errno {
	return n.notify(func(s ServerCallbacks, id uint64) fuse.Status { return s.EntryNotify(id, name) })
}

// NotifyDelete is NotifyEntry for a name that was removed: who watches the
// directory (inotify(7)) is told. child is the inode that it had.
func (n *Inode) NotifyDelete(name string, child *Inode) syscall.Errno {
	return n.notify(func(s ServerCallbacks, id uint64) fuse.Status {
		return s.DeleteNotify(id, child.nodeID(), name)
	})
}

// WriteCache puts data into the kernel's cache of the file n.
func (n *Inode) WriteCache(offset int64, data []byte) syscall.Errno {
	return n.notify(func(s ServerCallbacks, id uint64) fuse.Status { return s.InodeNotifyStoreCache(id, offset, data) })
}

// ReadCache reads from the kernel's cache of the file n, as far as it goes.
func (n *Inode) ReadCache(offset int64, dest []byte) (count int, errno syscall.Errno) {
	errno = n.notify(func(s ServerCallbacks, id uint64) (st fuse.Status) {
		count, st = s.InodeRetrieveCache(id, offset, dest)
		return st
	})
	return count, errno
}

// pruner is the part of a server that can make the kernel forget inodes.
type pruner interface {
	PruneNotify(nodes []uint64) fuse.Status
}

// NotifyPrune asks the kernel to forget those of nodes that are not in use.
// n is not one of them unless it is named.
func (n *Inode) NotifyPrune(nodes []*Inode) syscall.Errno {
	s, ok := n.bridge.callbacks().(pruner)
	if !ok {
		return syscall.ENOSYS
	}
	ids := make([]uint64, 0, len(nodes))
	for _, n := range nodes {
		if id := n.nodeID(); id != 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	return syscall.Errno(s.PruneNotify(ids))
}

// notify calls f with the id of n. An inode that the kernel does not know
// needs no notification: ENOENT, as the kernel would say.
func (n *Inode) notify(f func(s ServerCallbacks, id uint64) fuse.Status) syscall.Errno {
	if n.bridge == nil {
		return syscall.ENOENT
	}
	s := n.bridge.callbacks()
	if s == nil {
		return syscall.ENOSYS
	}
	id := n.nodeID()
	if id == 0 {
		return syscall.ENOENT
	}
	return syscall.Errno(f(s, id))
}

// nodeID returns the id by which the kernel knows n, or 0.
func (n *Inode) nodeID() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// childNamed is GetChild for a name that may not be kept: it returns the
// name as the tree has it.
func (n *Inode) childNamed(name string) (string, *Inode) {
	if n.dir == nil {
		return "", nil
	}
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	if i := n.dir.find(name); i >= 0 {
		return n.dir.entries[i].name, n.dir.entries[i].node
	}
	return "", nil
}
