package vfs

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A dir is a directory on the way to what is attached, or the place itself.
// All is guarded by FS.mu, except what is never changed and n.
type dir struct {
	id     uint64 // node id, if nothing is attached here
	name   string
	parent *dir // nil at the root

	mount   *Mount // nil: a directory of the union's own
	kids    map[string]*dir
	order   []*dir // the kids, as they were added
	n       atomic.Int32
	seq     uint64 // position among the parent's kids
	lastSeq uint64
	changed time.Time
}

// node is the id by which the kernel knows d.
func (d *dir) node() uint64 {
	if d.mount != nil {
		return d.mount.Node(fuse.FUSE_ROOT_ID)
	}
	return d.id
}

// find returns the directory at a path, or nil. mu is held.
func (f *FS) find(names []string) *dir {
	d := f.tree
	for _, n := range names {
		if d = d.kids[n]; d == nil {
			return nil
		}
	}
	return d
}

// grow makes the directory at a path and those that lead to it, and returns
// it and the topmost one that is new, or again it. mu is held.
func (f *FS) grow(names []string) (d, top *dir) {
	d = f.tree
	for _, n := range names {
		kid := d.kids[n]
		if kid == nil {
			f.lastDir++
			d.lastSeq++
			kid = &dir{id: f.lastDir, name: n, parent: d, seq: d.lastSeq, changed: f.opts.Now()}
			if d.kids == nil {
				d.kids = map[string]*dir{}
			}
			d.kids[n] = kid
			d.order = append(d.order, kid)
			d.n.Add(1)
			d.changed = kid.changed
			f.dirs[kid.id] = kid
			if top == nil {
				top = kid
			}
		}
		d = kid
	}
	if top == nil {
		top = d
	}
	return d, top
}

// prune removes d and those above that lead nowhere any more, and returns the
// topmost one that was removed, or d if none was. mu is held.
func (f *FS) prune(d *dir) *dir {
	top := d
	for d.parent != nil && d.mount == nil && len(d.kids) == 0 {
		p := d.parent
		delete(p.kids, d.name)
		delete(f.dirs, d.id)
		p.order = slices.DeleteFunc(p.order, func(k *dir) bool { return k == d })
		p.n.Add(-1)
		p.changed = f.opts.Now()
		top, d = d, p
	}
	return top
}

// announce tells the kernel that what is at d has changed, or is gone: it
// drops the name, with all below, and what it knows of the directory.
func (f *FS) announce(d *dir, old *Mount) {
	f.mu.RLock()
	server := f.server
	if server != nil && d.parent != nil {
		parent := d.parent.node()
		server.Notifier().Entry(parent, d.name)
		server.Notifier().Inode(parent, 0, 0)
	}
	f.mu.RUnlock()
	if server != nil && d.parent == nil {
		f.announceRoot(server, old)
	}
}

// announceRoot has all names in the root looked up again. The root's node id
// stays, so they do not go with it. Kernels before 7.44 have to be told each.
func (f *FS) announceRoot(server *fuse.Server, old *Mount) {
	if server.KernelSettings().Major == 0 {
		return // before INIT the kernel knows nothing
	}
	q := server.Notifier()
	if server.KernelSettings().SupportsNotify(fuse.NOTIFY_INC_EPOCH) {
		q.IncEpoch()
	} else {
		for _, m := range []*Mount{old, f.root.Load()} {
			for _, name := range f.names(m) {
				q.Entry(fuse.FUSE_ROOT_ID, name)
			}
		}
	}
	q.Inode(fuse.FUSE_ROOT_ID, 0, 0)
}

// maxNames bounds how much of a root directory is listed for an invalidation.
const maxNames = 1 << 16

// names lists m's root directory, as far as that works without the kernel.
func (f *FS) names(m *Mount) []string {
	if m == nil || m == f.own {
		return nil
	}
	m.active.Add(1)
	defer m.leaveQuietly()
	if m.state.Load() == released {
		return nil
	}
	head := fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}
	var open fuse.OpenOut
	st := m.fs.OpenDir(nil, &fuse.OpenIn{InHeader: head}, &open)
	if st != fuse.OK && st != fuse.ENOSYS {
		return nil
	}
	var names []string
	in := fuse.ReadIn{InHeader: head, Fh: open.Fh, Size: 1 << 16}
	buf := make([]byte, in.Size)
	for len(names) < maxNames {
		in.NodeId = fuse.FUSE_ROOT_ID
		list := fuse.NewDirEntryList(buf, in.Offset)
		if m.fs.ReadDir(nil, &in, list) != fuse.OK || len(list.Bytes()) == 0 {
			break
		}
		entries, err := fuse.ParseDirEntries(list.Bytes())
		if err != nil {
			break
		}
		for _, e := range entries {
			if e.Name != "." && e.Name != ".." {
				names = append(names, e.Name)
			}
		}
		in.Offset = list.Offset
	}
	if st == fuse.OK {
		m.fs.ReleaseDir(&fuse.ReleaseIn{InHeader: head, Fh: open.Fh})
	}
	return names
}

// kidAt returns what the union has at name below a node: nil if the node's
// file system is to be asked.
func (f *FS) kidAt(m *Mount, inner uint64, name string) *dir {
	d := f.dirAt(m, inner)
	if d == nil || d.n.Load() == 0 {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return d.kids[name]
}

// dirAt returns the union's directory that is a node, or nil. Of what is
// attached only the roots are such.
func (f *FS) dirAt(m *Mount, inner uint64) *dir {
	switch {
	case m != f.own && inner == fuse.FUSE_ROOT_ID:
		return m.entry
	case m != f.own:
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.dirs[inner]
}

// entry answers a look-up of d.
func (f *FS) entry(cancel <-chan struct{}, h *fuse.InHeader, d *dir, out *fuse.EntryOut) fuse.Status {
	for {
		f.mu.RLock()
		m, gone := d.mount, d.parent != nil && d.parent.kids[d.name] != d
		if m == nil && !gone {
			f.attr(d, &out.Attr)
		}
		f.mu.RUnlock()
		switch {
		case gone:
			return fuse.ENOENT
		case m == nil:
			out.NodeId = d.id
			out.SetEntryTimeout(f.opts.EntryTimeout)
			out.SetAttrTimeout(f.opts.EntryTimeout)
			return fuse.OK
		}
		if st, again := f.rootEntry(cancel, h, m, out); !again {
			return st
		}
	}
}

// rootEntry answers a look-up of m's root; again means that m is no longer
// attached.
func (f *FS) rootEntry(cancel <-chan struct{}, h *fuse.InHeader, m *Mount, out *fuse.EntryOut) (st fuse.Status, again bool) {
	m.active.Add(1)
	defer m.leaveQuietly()
	if m.state.Load() != attached {
		return 0, true
	}
	var attr fuse.AttrOut
	st = m.rootAttr(cancel, h, &attr)
	if st != fuse.OK {
		return st, false
	}
	out.Attr = attr.Attr
	out.AttrValid, out.AttrValidNsec = attr.AttrValid, attr.AttrValidNsec
	out.SetEntryTimeout(f.opts.EntryTimeout)
	out.NodeId = fuse.FUSE_ROOT_ID
	m.give(out)
	return fuse.OK, false
}

// rootAttr asks m for the attributes of its root, in the name of another
// request. That has no id, so that it cannot be answered late.
func (m *Mount) rootAttr(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.AttrOut) fuse.Status {
	in := fuse.GetAttrIn{InHeader: *h}
	in.NodeId, in.Unique, in.Opcode = fuse.FUSE_ROOT_ID, 0, uint32(wire.OpGetattr)
	st := m.fs.GetAttr(cancel, &in, out)
	if st == fuse.Pending {
		return fuse.EIO
	}
	return st
}

// attr fills in the attributes of a directory of the union's own. mu is held.
func (f *FS) attr(d *dir, a *fuse.Attr) {
	*a = fuse.Attr{
		Ino: ownIno | d.id, Mode: fuse.S_IFDIR | 0o755, Nlink: uint32(2 + len(d.kids)), Blksize: 4096,
	}
	a.SetTimes(&d.changed, &d.changed, &d.changed)
}

// ownIno marks the inode numbers of the union's own directories: those of the
// slot that is given out last.
const ownIno = (maxSlots - 1) << innerBits

// listKids appends what the union has below d to a listing, from the offset
// on; names that the file system there has too are left out. It stops when
// there is no more room.
func (f *FS) listKids(m *Mount, d *dir, h *fuse.InHeader, offset uint64, list *fuse.DirEntryList, plus bool) {
	f.mu.RLock()
	kids := slices.Clone(d.order)
	f.mu.RUnlock()
	for _, k := range kids {
		off := kidOffset + k.seq
		if off <= offset || m != f.own && m.has(h, k.name) {
			continue
		}
		e := fuse.DirEntry{Name: k.name, Ino: ownIno | k.id, Mode: fuse.S_IFDIR, Off: off}
		if plus && list.AddDirLookupEntry(e) == nil || !plus && !list.AddDirEntry(e) {
			return
		}
	}
}

// kidOffset is where the offsets of the union's own entries begin. File systems
// have none from there on but endOffset: ext4, whose offsets are hashes, uses all
// that a loff_t has below.
const (
	kidOffset = math.MaxInt64 &^ math.MaxUint32
	endOffset = math.MaxInt64 // what ext4 and btrfs have for the end
)

// has reports whether m's root directory has name.
func (m *Mount) has(h *fuse.InHeader, name string) bool {
	head := *h
	head.NodeId, head.Unique, head.Opcode = fuse.FUSE_ROOT_ID, 0, uint32(wire.OpLookup)
	var out fuse.EntryOut
	if m.fs.Lookup(nil, &head, name, &out) != fuse.OK || out.NodeId == 0 {
		return false
	}
	m.fs.Forget(out.NodeId, 1)
	return true
}
