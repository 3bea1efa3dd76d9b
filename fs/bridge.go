package fs

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// rawBridge turns the requests of the kernel into calls of nodes.
type rawBridge struct {
	options Options
	root    *Inode
	server  atomic.Pointer[ServerCallbacks]

	// timeouts of the options, in the form of the protocol
	entryTimeout, attrTimeout, negativeTimeout time.Duration

	autoIno atomic.Uint64
	ids     identities  // inodes that the kernel knows
	nodes   slab[Inode] // the same by node id, unless that is the number
	files   slab[openFile]
	pruning pruning
	backing backings

	killPriv bool // set-id bits are ours to clear

	started time.Time
}

var _ fuse.RawFileSystem = (*rawBridge)(nil)

// NewNodeFS makes a file system of the tree whose root is given, for
// fuse.NewServer. nil for opts means that the kernel keeps names and
// attributes for a second.
func NewNodeFS(root InodeEmbedder, opts *Options) fuse.RawFileSystem {
	if opts == nil {
		second := time.Second
		opts = &Options{EntryTimeout: &second, AttrTimeout: &second}
	}
	b := &rawBridge{options: *opts, started: time.Now()}
	if opts.ServerCallbacks != nil {
		b.server.Store(&opts.ServerCallbacks)
	}
	b.entryTimeout = orZero(opts.EntryTimeout)
	b.attrTimeout = orZero(opts.AttrTimeout)
	b.negativeTimeout = orZero(opts.NegativeTimeout)
	first := opts.FirstAutomaticIno
	if first == 0 {
		first = 1 << 63
	}
	b.autoIno.Store(first - 1)

	id := StableAttr{Mode: syscall.S_IFDIR, Ino: root.embed().ino}
	if a := opts.RootStableAttr; a != nil {
		id.Ino, id.Gen = a.Ino, a.Gen
	}
	n := root.embed()
	n.init(root, b, id)
	n.id, n.lookups = fuse.FUSE_ROOT_ID, 1
	n.flags |= alive
	b.root = n
	b.ids.findOrAdd(n, false)

	if opts.OnAdd != nil {
		opts.OnAdd(context.Background())
	} else if oa, ok := root.(NodeOnAdder); ok {
		oa.OnAdd(context.Background())
	}
	return b
}

func orZero(d *time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return *d
}

func (n *Inode) init(ops InodeEmbedder, b *rawBridge, id StableAttr) {
	n.ops, n.bridge = ops, b
	n.ino, n.gen, n.mode = id.Ino, id.Gen, id.Mode
	n.pooled = keepsNoContext(ops)
	if id.Mode == syscall.S_IFDIR {
		n.dir = new(directory)
	}
}

// newInode makes ops part of the file system. An ops that is already part of
// one is left as it is.
func (b *rawBridge) newInode(ctx context.Context, ops InodeEmbedder, id StableAttr, persist bool) *Inode {
	if id.Reserved() {
		panic("fs: inode number " + id.String() + " is reserved")
	}
	n := ops.embed()
	if n.bridge != nil {
		return n
	}
	id.Mode &= syscall.S_IFMT
	if id.Mode == 0 {
		id.Mode = syscall.S_IFREG
	}
	if id.Ino == 0 {
		id.Ino = b.nextIno()
	}
	n.init(ops, b, id)
	if persist {
		n.flags |= persistent | alive
	}
	if oa, ok := ops.(NodeOnAdder); ok {
		oa.OnAdd(ctx)
	}
	return n
}

func (b *rawBridge) nextIno() uint64 {
	for {
		ino := b.autoIno.Add(1)
		if ino == 0 || ino == ^uint64(0) || ino == fuse.FUSE_ROOT_ID && b.options.ExternalNodeID {
			continue
		}
		if b.ids.byIno(ino) == nil {
			return ino
		}
	}
}

func (b *rawBridge) logf(format string, args ...any) {
	if b.options.Logger != nil {
		b.options.Logger.Printf(format, args...)
	}
}

func (b *rawBridge) callbacks() ServerCallbacks {
	if p := b.server.Load(); p != nil {
		return *p
	}
	return nil
}

// node returns the inode of a node id, or nil if the kernel should not know
// it: a peer out of step, to be answered with ESTALE.
func (b *rawBridge) node(id uint64) *Inode {
	if id == fuse.FUSE_ROOT_ID {
		return b.root
	}
	if b.options.ExternalNodeID {
		return b.ids.byIno(id)
	}
	return b.nodes.get(id)
}

// addRef gives the kernel one reference to n, or to the inode that it knows
// under the same StableAttr, which is returned. With fresh set n is known to
// be new, and takes the place of an inode whose number it was given. ok is
// false if there are too many inodes.
func (b *rawBridge) addRef(n *Inode, fresh bool) (known *Inode, ok bool) {
	external := b.options.ExternalNodeID
	for {
		n.mu.Lock()
		if n.lookups > 0 {
			n.lookups++
			n.flags |= touched
			n.mu.Unlock()
			return n, true
		}
		other := b.ids.findOrAdd(n, external)
		if other == n {
			ok = b.firstRef(n, 0)
			n.mu.Unlock()
			return n, ok
		}
		n.mu.Unlock()
		if external && (fresh || other.gen != n.gen || other.mode != n.mode) || fresh {
			if b.supplant(other, n) {
				return n, true
			}
			continue
		}
		other.mu.Lock()
		if other.lookups > 0 {
			other.lookups++
			other.flags |= touched
			other.mu.Unlock()
			return other, true
		}
		other.mu.Unlock() // forgotten since: it has left the table
	}
}

// firstRef makes n known to the kernel. n.mu is held, and n is in b.ids.
func (b *rawBridge) firstRef(n *Inode, lookups uint64) bool {
	if b.options.ExternalNodeID {
		n.id = n.ino
	} else {
		id, ok := b.nodes.put(n)
		if !ok {
			b.ids.remove(n)
			return false
		}
		n.id = id
	}
	n.lookups = lookups + 1
	n.flags |= alive | touched
	b.grown()
	return true
}

// supplant puts n in the place of old, of which the kernel may still have
// references. With node ids of their own both go on; otherwise those
// references are n's from now on, as they cannot be told apart.
func (b *rawBridge) supplant(old, n *Inode) bool {
	old.mu.Lock()
	if old.lookups == 0 {
		old.mu.Unlock()
		return false
	}
	b.ids.replace(old, n)
	lookups := uint64(0)
	if b.options.ExternalNodeID && old != b.root {
		lookups = old.lookups
		old.lookups, old.id = 0, 0
	}
	old.mu.Unlock()
	n.mu.Lock()
	ok := b.firstRef(n, lookups)
	n.mu.Unlock()
	old.ForgetPersistent()
	return ok
}

// Forget takes back references of the kernel. An id that is not known, and a
// count above what was given, are a peer out of step and do no harm.
func (b *rawBridge) Forget(nodeid, nlookup uint64) {
	n := b.node(nodeid)
	if n == nil || n == b.root {
		return
	}
	n.mu.Lock()
	if n.id != nodeid || nlookup < n.lookups {
		if n.id == nodeid {
			n.lookups -= nlookup
		}
		n.mu.Unlock()
		return
	}
	n.lookups, n.id = 0, 0
	b.ids.remove(n)
	if !b.options.ExternalNodeID {
		b.nodes.remove(nodeid)
	}
	n.mu.Unlock()
	n.dropIfUnused()
}

// addEntry answers a request that found or made child under a name of parent
// (no name: it gets none): the kernel gets a reference, the tree the name.
// fresh means that the child has been made by the request.
func (b *rawBridge) addEntry(parent *Inode, name string, child *Inode, fresh bool, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	if child == nil || child.bridge != b {
		b.logf("%q: the file system returned success, but no inode of this tree", name)
		return nil, syscall.EIO
	}
	child, ok := b.addRef(child, fresh)
	if !ok {
		return nil, syscall.ENFILE
	}
	if name != "" {
		parent.dir.mu.Lock()
		old, stale := parent.setChild(name, child)
		parent.dir.mu.Unlock()
		parent.cleanUp(old, stale, child)
	}
	b.finishEntry(child, out)
	return child, 0
}

// finishEntry fills in what the file system does not say of an inode.
func (b *rawBridge) finishEntry(n *Inode, out *fuse.EntryOut) {
	out.NodeId = n.nodeID()
	out.Generation = n.gen
	out.Ino = n.ino
	out.Mode = out.Mode&07777 | n.mode
	out.Nlink = max(out.Nlink, 1) // it has a name
	b.finishAttr(&out.Attr)
	if b.entryTimeout != 0 && out.EntryValid == 0 && out.EntryValidNsec == 0 {
		out.SetEntryTimeout(b.entryTimeout)
	}
	if b.attrTimeout != 0 && out.AttrValid == 0 && out.AttrValidNsec == 0 && !b.staysFresh(out.Mode) {
		out.SetAttrTimeout(b.attrTimeout)
	}
}

// linkCount is that of an inode whose node gives none: 1 if it has a name.
// Linux makes no further link to an inode that has 0.
func (n *Inode) linkCount() uint32 {
	if _, parent := n.Parent(); parent == nil && !n.IsRoot() {
		return 0
	}
	return 1
}

func (b *rawBridge) finishAttr(a *fuse.Attr) {
	if a.Mode&07777 == 0 && !b.options.NullPermissions {
		a.Mode |= defaultPermissions(a.Mode)
	}
	a.Uid, a.Gid = b.owner(a.Uid, a.Gid)
	setBlocks(a)
}

// owner returns who is shown as the owner of what uid and gid own.
func (b *rawBridge) owner(uid, gid uint32) (uint32, uint32) {
	o := &b.options
	if uid == 0 {
		uid = o.UID
	}
	if gid == 0 {
		gid = o.GID
	}
	if o.AllUID != nil {
		uid = *o.AllUID
	}
	if o.AllGID != nil {
		gid = *o.AllGID
	}
	return uid, gid
}

func defaultPermissions(mode uint32) uint32 {
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		return 0755
	}
	return 0644
}

// finishAttrOut finishes the answer to GETATTR and SETATTR.
func (b *rawBridge) finishAttrOut(n *Inode, out *fuse.AttrOut) {
	if out.Ino != 0 && n.ino > 1 && out.Ino != n.ino {
		b.logf("inode %s: attributes have the number %d", n.StableAttr(), out.Ino)
	}
	out.Ino = n.ino
	out.Mode = out.Mode&07777 | n.mode
	if out.Nlink == 0 {
		out.Nlink = n.linkCount()
	}
	b.finishAttr(&out.Attr)
	if b.attrTimeout != 0 && out.AttrValid == 0 && out.AttrValidNsec == 0 && !b.staysFresh(out.Mode) {
		out.SetTimeout(b.attrTimeout)
	}
}

// contexts are lent to nodes of this package that are known not to keep them.
var contexts = sync.Pool{New: func() any { return new(fuse.Context) }}

// context returns what a method of n is called with; done takes it back.
func (n *Inode) context(cancel <-chan struct{}, caller fuse.Caller) *fuse.Context {
	if !n.pooled {
		return &fuse.Context{Caller: caller, Cancel: cancel}
	}
	c := contexts.Get().(*fuse.Context)
	c.Caller, c.Cancel = caller, cancel
	return c
}

func (n *Inode) done(c *fuse.Context) {
	if n.pooled {
		c.Cancel = nil
		contexts.Put(c)
	}
}

// String names the kind of file system.
func (b *rawBridge) String() string { return "fs" }

// SetDebug does nothing: the server traces requests.
func (b *rawBridge) SetDebug(bool) {}

// Init connects the tree with its server.
func (b *rawBridge) Init(s *fuse.Server) {
	var cb ServerCallbacks = s
	b.server.Store(&cb)
}

// OnUnmount tells the root of the end.
func (b *rawBridge) OnUnmount() {
	b.pruning.stop()
	if f, ok := b.root.ops.(NodeOnForgetter); ok {
		f.OnForget()
	}
}

const estale = fuse.Status(syscall.ESTALE)

func validName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return false
		}
	}
	return true
}

// maxName is FUSE_NAME_MAX of the kernel, bytes.
const maxName = 1024
