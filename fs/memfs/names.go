package memfs

import (
	"context"
	"syscall"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// maxName is the longest name, bytes.
const maxName = 255

// Lookup finds a name.
func (n *Node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if len(name) > maxName {
		return nil, syscall.ENAMETOOLONG
	}
	ch := n.child(name)
	if ch == nil {
		return nil, syscall.ENOENT
	}
	ch.fill(out)
	return ch.EmbeddedInode(), 0
}

// free checks that a name may be made in n; n.names is held.
func (n *Node) free(name string) syscall.Errno {
	switch {
	case len(name) > maxName:
		return syscall.ENAMETOOLONG
	case n.GetChild(name) != nil:
		return syscall.EEXIST
	case n.removed():
		return syscall.ENOENT
	}
	return 0
}

// removed reports whether the directory n was removed.
func (n *Node) removed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.attr.Nlink == 0
}

// make makes a child of a type and with permissions.
func (n *Node) make(ctx context.Context, name string, mode uint32, out *fuse.EntryOut, set func(*Node)) (*fs.Inode, syscall.Errno) {
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	if errno := n.free(name); errno != 0 {
		return nil, errno
	}
	ch, errno := n.add(ctx, name, mode, out)
	if errno != 0 {
		return nil, errno
	}
	if set != nil {
		ch.mu.Lock()
		set(ch)
		out.Attr = ch.current()
		ch.mu.Unlock()
	}
	return ch.EmbeddedInode(), 0
}

// Mkdir makes a directory.
func (n *Node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, name, syscall.S_IFDIR|mode&0o7777, out, nil)
}

// Mknod makes a file, fifo, socket or device.
func (n *Node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, name, mode, out, func(ch *Node) { ch.attr.Rdev = dev })
}

// Symlink makes a symbolic link.
func (n *Node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.quota.take(int64(len(target))); errno != 0 {
		return nil, errno
	}
	ch, errno := n.make(ctx, name, syscall.S_IFLNK|0o777, out, func(ch *Node) { ch.target = []byte(target) })
	if errno != 0 {
		n.quota.give(int64(len(target)))
	}
	return ch, errno
}

// Create makes and opens a file.
func (n *Node) Create(ctx context.Context, name string, flags uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	ch, errno := n.make(ctx, name, syscall.S_IFREG|mode&0o7777, out, nil)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	ch.Operations().(*Node).opened()
	return ch, nil, fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
}

// Tmpfile makes and opens a file without a name.
func (n *Node) Tmpfile(ctx context.Context, flags uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	ch, errno := n.newNode(ctx, syscall.S_IFREG|mode&0o7777)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	ch.attr.Nlink = 0
	ch.opened()
	ch.fill(out)
	return n.NewPersistentInode(ctx, ch, fs.StableAttr{Mode: syscall.S_IFREG}), nil, fuse.FOPEN_NOFLUSH, 0
}

// Link gives a file one more name.
func (n *Node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	t, ok := target.(*Node)
	if !ok || t.quota != n.quota {
		return nil, syscall.EXDEV
	}
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	if errno := n.free(name); errno != 0 {
		return nil, errno
	}
	n.AddChild(name, t.EmbeddedInode(), false)
	t.linked(1)
	n.changed(0)
	t.fill(out)
	return t.EmbeddedInode(), 0
}

// Unlink removes a name of a file.
func (n *Node) Unlink(ctx context.Context, name string) syscall.Errno {
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	ch := n.child(name)
	if ch == nil {
		return syscall.ENOENT
	}
	if ch.IsDir() {
		return syscall.EISDIR
	}
	n.RmChild(name)
	n.changed(0)
	ch.linked(-1)
	return 0
}

// Rmdir removes an empty directory.
func (n *Node) Rmdir(ctx context.Context, name string) syscall.Errno {
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	ch := n.child(name)
	if ch == nil {
		return syscall.ENOENT
	}
	if !ch.IsDir() {
		return syscall.ENOTDIR
	}
	if len(ch.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	n.RmChild(name)
	n.changed(-1)
	ch.linked(-2)
	return 0
}

// Rename moves a name, replaces another one, or exchanges two.
func (n *Node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*Node)
	if !ok || to.quota != n.quota {
		return syscall.EXDEV
	}
	if len(newName) > maxName {
		return syscall.ENAMETOOLONG
	}
	if flags&^uint32(fs.RENAME_EXCHANGE|fs.RENAME_NOREPLACE) != 0 {
		return syscall.EINVAL
	}
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	src, dst := n.child(name), to.child(newName)
	switch {
	case src == nil:
		return syscall.ENOENT
	case flags&fs.RENAME_NOREPLACE != 0 && dst != nil:
		return syscall.EEXIST
	case src == dst:
		return 0
	case flags&fs.RENAME_EXCHANGE != 0:
		return n.exchange(src, to, dst)
	case dst != nil && dst.IsDir() && !src.IsDir():
		return syscall.EISDIR
	case dst != nil && !dst.IsDir() && src.IsDir():
		return syscall.ENOTDIR
	case dst != nil && dst.IsDir() && len(dst.Children()) > 0:
		return syscall.ENOTEMPTY
	}
	// package fs moves the name in the tree before the kernel is answered
	moved := 0
	if src.IsDir() {
		moved = 1
	}
	n.changed(-moved)
	replaced := 0
	if dst != nil {
		replaced = 1
		if dst.IsDir() {
			replaced = 2
		}
	}
	to.changed(moved)
	if replaced == 2 {
		to.changed(-1)
	}
	src.touch()
	if dst != nil {
		dst.linked(-replaced)
	}
	return 0
}

func (n *Node) exchange(src, to, dst *Node) syscall.Errno {
	if dst == nil {
		return syscall.ENOENT
	}
	d := 0
	if dst.IsDir() {
		d++
	}
	if src.IsDir() {
		d--
	}
	n.changed(d)
	to.changed(-d)
	src.touch()
	dst.touch()
	return 0
}

// touch notes that something about n changed that is not data.
func (n *Node) touch() { n.linked(0) }
