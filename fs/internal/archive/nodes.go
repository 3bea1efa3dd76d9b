package archive

import (
	"container/list"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// Content gives the bytes of one member; ReadAt is safe for concurrent use.
type Content interface {
	io.ReaderAt
	io.Closer
}

// ErrUnsupported says that a member is stored in a way that is not read
// here; opening it gives EOPNOTSUPP.
var ErrUnsupported = errors.New("unsupported")

// ErrEncrypted says that a member cannot be read without a password;
// opening it gives EACCES.
var ErrEncrypted = errors.New("encrypted")

// keepOpen is how many members that nobody has open stay ready, with what
// was learnt about seeking in them.
const keepOpen = 32

// FS shows a Tree as a file system.
type FS struct {
	tree  *Tree
	open  func(index int) (Content, error)
	size  int64 // bytes of the archive, for statfs
	close func() error

	mu      sync.Mutex // leaf; not held while a member is opened or read
	members map[int32]*member
	unused  *list.List // of *member, least recently used first
}

// member is the open contents of a node.
type member struct {
	node    int32
	once    sync.Once
	content Content
	err     error
	refs    int
	unused  *list.Element
}

// New returns the file system of t. Its members are opened by their Index;
// close is called by Close.
func New(t *Tree, size int64, open func(index int) (Content, error), close func() error) *FS {
	return &FS{tree: t, open: open, size: size, close: close, members: map[int32]*member{}, unused: list.New()}
}

// Tree returns the tree that is shown.
func (a *FS) Tree() *Tree { return a.tree }

// Root returns a node for the root directory. Each mount needs one of its
// own.
func (a *FS) Root() fs.InodeEmbedder { return &Node{archive: a, number: root} }

// Close closes the archive. What is still read from it fails.
func (a *FS) Close() error {
	a.mu.Lock()
	var all []Content
	for _, m := range a.members {
		if m.content != nil {
			all = append(all, m.content)
		}
	}
	clear(a.members)
	a.unused.Init()
	a.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	return a.close()
}

// acquire opens a member, or shares it with those who have it open.
func (a *FS) acquire(n int32) (*member, error) {
	a.mu.Lock()
	m, ok := a.members[n]
	if !ok {
		m = &member{node: n}
		a.members[n] = m
	}
	m.refs++
	if m.unused != nil {
		a.unused.Remove(m.unused)
		m.unused = nil
	}
	a.mu.Unlock()
	m.once.Do(func() { m.content, m.err = a.open(a.tree.nodes[n].Index) })
	if m.err != nil {
		a.release(m)
		return nil, m.err
	}
	return m, nil
}

func (a *FS) release(m *member) {
	var evicted Content
	a.mu.Lock()
	m.refs--
	switch {
	case m.refs > 0 || a.members[m.node] != m:
	case m.err != nil:
		delete(a.members, m.node)
	default:
		m.unused = a.unused.PushBack(m)
		if a.unused.Len() > keepOpen {
			old := a.unused.Remove(a.unused.Front()).(*member)
			delete(a.members, old.node)
			evicted = old.content
		}
	}
	a.mu.Unlock()
	if evicted != nil {
		evicted.Close()
	}
}

// Node is one inode of the archive.
type Node struct {
	fs.Inode
	archive *FS
	number  int32
}

var (
	_ fs.NodeGetattrer   = (*Node)(nil)
	_ fs.NodeGetxattrer  = (*Node)(nil)
	_ fs.NodeListxattrer = (*Node)(nil)
	_ fs.NodeLookuper    = (*Node)(nil)
	_ fs.NodeOpener      = (*Node)(nil)
	_ fs.NodeReaddirer   = (*Node)(nil)
	_ fs.NodeReadlinker  = (*Node)(nil)
	_ fs.NodeRenamer     = (*Node)(nil)
	_ fs.NodeRmdirer     = (*Node)(nil)
	_ fs.NodeSetattrer   = (*Node)(nil)
	_ fs.NodeStatfser    = (*Node)(nil)
	_ fs.NodeUnlinker    = (*Node)(nil)
	_ fs.FileReader      = (*handle)(nil)
	_ fs.FileReleaser    = (*handle)(nil)
)

func (n *Node) entry() *node { return &n.archive.tree.nodes[n.number] }

// stable is the identity of a node: its number, which is not 0.
func stable(number int32, e *node) fs.StableAttr {
	return fs.StableAttr{Mode: e.Mode & typeMask, Ino: uint64(number) + 1}
}

// attr fills in what stat shows.
func (n *Node) attr(out *fuse.Attr) { attr(n.number, n.entry(), out) }

func attr(number int32, e *node, out *fuse.Attr) {
	out.Ino = uint64(number) + 1
	out.Mode = e.Mode
	out.Nlink = e.Nlink
	out.Uid, out.Gid = e.UID, e.GID
	out.Rdev = e.Rdev
	out.Size = uint64(e.Size)
	if e.Mode&typeMask == TypeSymlink {
		out.Size = uint64(len(e.Target))
	}
	out.Blocks = (out.Size + 511) / 512
	out.Blksize = 4096
	out.SetTimes(&e.MTime, &e.MTime, &e.MTime)
}

// Getattr implements fs.NodeGetattrer.
func (n *Node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(&out.Attr)
	return fs.OK
}

// Lookup implements fs.NodeLookuper.
func (n *Node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	i, ok := n.entry().children[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	child := &Node{archive: n.archive, number: i}
	child.attr(&out.Attr)
	return n.NewInode(ctx, child, stable(i, child.entry())), fs.OK
}

// Readdir implements fs.NodeReaddirer.
func (n *Node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	e := n.entry()
	list := make([]fuse.DirEntry, len(e.names))
	for i, name := range e.names {
		c := e.children[name]
		list[i] = fuse.DirEntry{Name: name, Mode: n.archive.tree.nodes[c].Mode & typeMask, Ino: uint64(c) + 1}
	}
	return fs.NewListDirStream(list), fs.OK
}

// Readlink implements fs.NodeReadlinker.
func (n *Node) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(n.entry().Target), fs.OK
}

// Getxattr implements fs.NodeGetxattrer.
func (n *Node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return n.entry().getxattr(name, dest)
}

func (n *node) getxattr(name string, dest []byte) (uint32, syscall.Errno) {
	v, ok := n.Xattrs[name]
	if !ok {
		return 0, fs.ENOATTR
	}
	if len(dest) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), fs.OK
}

// Listxattr implements fs.NodeListxattrer.
func (n *Node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.entry().listxattr(dest)
}

func (n *node) listxattr(dest []byte) (uint32, syscall.Errno) {
	names := make([]string, 0, len(n.Xattrs))
	for name := range n.Xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	all := strings.Join(names, "\x00")
	if all != "" {
		all += "\x00"
	}
	if len(dest) < len(all) {
		return uint32(len(all)), syscall.ERANGE
	}
	return uint32(copy(dest, all)), fs.OK
}

// Unlink implements fs.NodeUnlinker. It and the three below it are what the
// node layer would otherwise do by itself, in its own tree.
func (n *Node) Unlink(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rmdir implements fs.NodeRmdirer.
func (n *Node) Rmdir(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rename implements fs.NodeRenamer.
func (n *Node) Rename(context.Context, string, fs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EROFS
}

// Setattr implements fs.NodeSetattrer.
func (n *Node) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

// Statfs implements fs.NodeStatfser.
func (n *Node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.archive.statfs(out)
	return fs.OK
}

func (a *FS) statfs(out *fuse.StatfsOut) {
	const block = 4096
	out.Bsize, out.Frsize = block, block
	out.Blocks = uint64(a.size+block-1) / block
	out.Files = uint64(a.tree.Len())
	out.NameLen = maxName
}

// Open implements fs.NodeOpener. Contents never change, so the kernel may
// keep what it has of them.
func (n *Node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	m, errno := n.archive.openMember(n.number)
	if errno != fs.OK {
		return nil, 0, errno
	}
	return &handle{node: n, m: m}, fuse.FOPEN_KEEP_CACHE, fs.OK
}

// handle is an open member.
type handle struct {
	node *Node
	m    *member
}

// Read implements fs.FileReader.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := h.m.read(dest, off, h.node.entry().Size)
	if errno != fs.OK {
		return nil, errno
	}
	return fuse.ReadResultData(dest[:n]), fs.OK
}

// Release implements fs.FileReleaser.
func (h *handle) Release(context.Context) syscall.Errno {
	h.node.archive.release(h.m)
	return fs.OK
}
