// Package memfs is a read-write file system in memory, with a quota.
//
//	root := memfs.New(memfs.Options{MaxBytes: 64 << 20})
//	server, err := fs.Mount("/mnt", root, nil)
//
// It keeps files of any type, hard links, symbolic links, extended
// attributes, times to the nanosecond, owners and permissions. The kernel
// checks permissions if the mount has the option default_permissions.
//
// Everything is in the tree of persistent inodes of package fs: there is no
// second one. A file that has lost its last name lives as long as the kernel
// knows it. The data of a file is kept in pages of 64 KiB, so a hole costs
// next to nothing; of a small file it is kept in sectors of 512 bytes.
//
// Locks, in order: that of changes of names, of which a file system has one;
// the lock of a node over its attributes and data. The quota is a counter.
package memfs

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// Options are the limits of a file system.
type Options struct {
	// MaxBytes bounds the bytes of file data, symbolic links and extended
	// attributes, counted in pages or sectors for data. 0 means no limit.
	MaxBytes int64

	// MaxInodes bounds the number of inodes. 0 means no limit.
	MaxInodes int64

	// UID, GID and Mode are those of the root directory. Mode 0 means 0755.
	UID, GID uint32
	Mode     uint32
}

// quota is what all nodes of a file system share: what is used, and the lock
// of its names.
type quota struct {
	maxBytes, maxInodes int64
	bytes, inodes       atomic.Int64

	// names is held over a change of names, so that a check and the change
	// are one. Looking up does not take it.
	names sync.Mutex
}

// take reserves n bytes; ENOSPC if there are not as many.
func (q *quota) take(n int64) syscall.Errno {
	if used := q.bytes.Add(n); q.maxBytes > 0 && used > q.maxBytes {
		q.bytes.Add(-n)
		return syscall.ENOSPC
	}
	return 0
}

func (q *quota) give(n int64) { q.bytes.Add(-n) }

// Node is a file of any type.
type Node struct {
	fs.Inode
	quota *quota

	mu     sync.Mutex // guards what follows
	attr   fuse.Attr  // but Ino
	data   pages
	target []byte // of a symbolic link
	xattr  map[string][]byte
	opens  int
	gone   bool // given back to the quota
}

// New returns the root of a new, empty file system.
func New(opts Options) *Node {
	if opts.Mode == 0 {
		opts.Mode = 0o755
	}
	q := &quota{maxBytes: opts.MaxBytes, maxInodes: opts.MaxInodes}
	q.inodes.Add(1)
	n := &Node{quota: q}
	n.attr.Mode = syscall.S_IFDIR | opts.Mode&0o7777
	n.attr.Uid, n.attr.Gid, n.attr.Nlink = opts.UID, opts.GID, 2
	now := time.Now()
	n.attr.SetTimes(&now, &now, &now)
	return n
}

// Used returns the bytes and the inodes in use.
func (n *Node) Used() (bytes, inodes int64) {
	return n.quota.bytes.Load(), n.quota.inodes.Load()
}

// add makes a child node and gives it a name; quota.names is held.
func (n *Node) add(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*Node, syscall.Errno) {
	ch, errno := n.newNode(ctx, mode)
	if errno != 0 {
		return nil, errno
	}
	n.AddChild(name, n.NewPersistentInode(ctx, ch, fs.StableAttr{Mode: mode}), false)
	links := 0
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		links = 1
	}
	n.changed(links)
	ch.fill(out)
	return ch, 0
}

func (n *Node) newNode(ctx context.Context, mode uint32) (*Node, syscall.Errno) {
	q := n.quota
	if used := q.inodes.Add(1); q.maxInodes > 0 && used > q.maxInodes {
		q.inodes.Add(-1)
		return nil, syscall.ENOSPC
	}
	ch := &Node{quota: q}
	ch.attr.Mode, ch.attr.Nlink = mode, 1
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		ch.attr.Nlink = 2
	}
	if c, ok := fuse.FromContext(ctx); ok {
		ch.attr.Owner = c.Owner
	}
	n.mu.Lock()
	if n.attr.Mode&syscall.S_ISGID != 0 { // the group is inherited
		ch.attr.Gid = n.attr.Gid
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			ch.attr.Mode |= syscall.S_ISGID
		}
	}
	n.mu.Unlock()
	now := time.Now()
	ch.attr.SetTimes(&now, &now, &now)
	return ch, 0
}

// changed notes a change of the names in the directory n, and of its links
// by so many.
func (n *Node) changed(links int) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attr.SetTimes(nil, &now, &now)
	n.attr.Nlink += uint32(links)
}

// linked notes that n has got, or lost, a name.
func (n *Node) linked(by int) {
	now := time.Now()
	n.mu.Lock()
	n.attr.Nlink += uint32(by)
	n.attr.SetTimes(nil, nil, &now)
	last := n.attr.Nlink == 0
	n.mu.Unlock()
	if last {
		n.ForgetPersistent()
	}
}

// OnForget gives the space back: the kernel does not know the node any more
// and it has no name.
func (n *Node) OnForget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || n.attr.Nlink > 0 {
		return
	}
	n.gone = true
	n.quota.inodes.Add(-1)
	n.quota.give(n.data.truncate(0) + int64(len(n.target)))
	for name, v := range n.xattr {
		n.quota.give(int64(len(name) + len(v)))
	}
	n.xattr = nil
}

func (n *Node) fill(out *fuse.EntryOut) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out.Attr = n.current()
}

// current returns the attributes; mu is held.
func (n *Node) current() fuse.Attr {
	a := n.attr
	a.Blksize = pageSize
	switch a.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		a.Size, a.Blocks = uint64(n.data.size), uint64(n.data.stored/512)
	case syscall.S_IFLNK:
		a.Size = uint64(len(n.target))
	}
	return a
}

// child returns the node of a name in n.
func (n *Node) child(name string) *Node {
	if ch := n.GetChild(name); ch != nil {
		return ch.Operations().(*Node)
	}
	return nil
}
