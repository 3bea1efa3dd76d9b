package vfs

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

const (
	slotBits  = 16
	innerBits = 64 - slotBits
	maxSlots  = 1 << slotBits
	innerMask = 1<<innerBits - 1

	// numbered marks ids that stand for one too large to be used as it is.
	numbered = 1 << (innerBits - 1)
)

// A Mount is a file system that is, or was, attached.
type Mount struct {
	fs   fuse.RawFileSystem
	path string
	slot uint64
	gen  uint64
	root bool // attached at the root: its node 1 is the kernel's

	since    time.Time
	ownSetID bool     // fs takes set-id bits away by itself
	restored bool     // what the kernel holds of it is not known exactly
	saved    [2]int64 // references and open files as the predecessor counted them
	entry    *dir     // where it is attached, for its ".." and what is attached below

	refs   atomic.Int64 // references that the kernel has to its nodes
	opens  atomic.Int64 // open files and directories
	active atomic.Int64 // methods of fs that run
	state  atomic.Int32
	idle   chan struct{} // gets a token when active or the counts fall to 0

	noOpen, noOpendir, noWritev atomic.Bool // it has answered ENOSYS to these

	ids   idTable
	trace trace
	stats counters

	done     chan struct{}
	doneOnce sync.Once
}

// The states of a Mount, in order.
const (
	attached int32 = iota
	lazily         // detached; what is in use goes on
	strictly       // detached; nothing goes on
	released       // fs is not called any more
)

// Path returns where the file system is, or was, attached.
func (m *Mount) Path() string { return m.path }

// FileSystem returns what is attached.
func (m *Mount) FileSystem() fuse.RawFileSystem { return m.fs }

// Since returns when it was attached.
func (m *Mount) Since() time.Time { return m.since }

// Slot returns the number that the node ids of the file system have in their
// upper 16 bits.
func (m *Mount) Slot() uint64 { return m.slot }

// Done is closed when the file system has been detached and will not be
// called any more; its OnUnmount has returned.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Attached reports whether the file system is still in the tree.
func (m *Mount) Attached() bool { return m.state.Load() == attached }

// InUse returns how many files and directories of it are open, and how many
// references to its nodes the kernel holds.
//
// After a change of process only what came since is counted.
func (m *Mount) InUse() (open, nodes int64) {
	open, nodes = m.opens.Load(), m.refs.Load()
	if m.restored {
		open, nodes = max(open-heldElsewhere, 0), max(nodes-heldElsewhere, 0)
	}
	return open, nodes
}

// Node returns the kernel's id of a node of the file system.
func (m *Mount) Node(inner uint64) uint64 {
	if inner == fuse.FUSE_ROOT_ID && m.root {
		return fuse.FUSE_ROOT_ID
	}
	if inner >= numbered {
		inner = numbered | m.ids.number(inner)
	}
	return m.slot<<innerBits | inner
}

// inner is the inverse of Node, for the lower bits of a kernel's id.
func (m *Mount) inner(low uint64) (uint64, bool) {
	if low&numbered == 0 {
		return low, true
	}
	return m.ids.lookup(low &^ numbered)
}

// Answered maps what the file system answers late, and counts it.
func (m *Mount) Answered(h *fuse.InHeader, entry *fuse.EntryOut, attr *fuse.Attr) {
	h.NodeId = m.Node(h.NodeId)
	if entry != nil {
		m.give(entry)
	}
	if attr != nil {
		m.mapAttr(attr)
	}
	switch wire.Opcode(h.Opcode) {
	case wire.OpOpen, wire.OpOpendir, wire.OpCreate, wire.OpTmpfile:
		m.opens.Add(1)
	}
}

// give makes out what the kernel may see, and counts the reference.
func (m *Mount) give(out *fuse.EntryOut) {
	m.mapAttr(&out.Attr)
	if !m.keeps(&out.Attr) {
		out.SetAttrTimeout(0)
	}
	if out.NodeId == 0 {
		return // no reference: the absence of a name
	}
	if out.NodeId >= numbered {
		m.ids.hold(out.NodeId)
	}
	out.NodeId = m.Node(out.NodeId)
	m.trace.gave(out.NodeId)
	out.Generation += m.gen << 32
	m.refs.Add(1)
}

// attr makes out what the kernel may see.
func (m *Mount) attr(out *fuse.AttrOut) {
	m.mapAttr(&out.Attr)
	if !m.keeps(&out.Attr) {
		out.SetTimeout(0)
	}
}

func (m *Mount) mapAttr(a *fuse.Attr) { a.Ino = m.ino(a.Ino) }

// ino makes an inode number that differs from those of other file systems,
// and is the same each time. A file system at the root keeps its numbers.
func (m *Mount) ino(n uint64) uint64 {
	if m.root || n == fuse.FUSE_UNKNOWN_INO {
		return n
	}
	return n ^ m.slot<<innerBits
}

// take gives n references back and frees what nobody needs.
func (m *Mount) take(inner, n uint64) {
	if inner >= numbered {
		m.ids.drop(inner, n)
	}
	if m.refs.Add(-int64(n)) <= 0 {
		m.wake()
	}
}

func (m *Mount) closed() {
	if m.opens.Add(-1) <= 0 {
		m.wake()
	}
}

// wake has whoever waits for the end look again.
func (m *Mount) wake() {
	if m.state.Load() == attached {
		return
	}
	select {
	case m.idle <- struct{}{}:
	default:
	}
}

// unused reports whether the kernel holds nothing of m.
func (m *Mount) unused() bool { return m.refs.Load() <= 0 && m.opens.Load() <= 0 }

// release ends the life of the file system.
func (m *Mount) release() {
	m.doneOnce.Do(func() {
		m.state.Store(released)
		m.fs.OnUnmount()
		close(m.done)
	})
}

// An idTable numbers node ids that are too large for the lower bits of the
// kernel's. The zero value is empty and ready.
type idTable struct {
	mu   sync.Mutex
	last uint64
	to   map[uint64]*numberedID // by the file system's id
	from map[uint64]*numberedID // by number
}

type numberedID struct {
	id, number uint64
	refs       uint64
}

// number returns the number of id, or 0, which stands for none, if the kernel
// has no reference to it.
func (t *idTable) number(id uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.to[id]; n != nil {
		return n.number
	}
	return 0
}

func (t *idTable) lookup(number uint64) (id uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.from[number]
	if n == nil {
		return 0, false
	}
	return n.id, true
}

// hold adds a reference to id, and a number if it has none.
func (t *idTable) hold(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.to[id]
	if n == nil {
		if t.to == nil {
			t.to, t.from = make(map[uint64]*numberedID), make(map[uint64]*numberedID)
		}
		t.last++
		n = &numberedID{id: id, number: t.last}
		t.to[id], t.from[n.number] = n, n
	}
	n.refs++
}

// drop takes references away; without any the number is forgotten, and never
// used again.
func (t *idTable) drop(id, refs uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.to[id]
	if n == nil {
		return
	}
	if n.refs -= min(refs, n.refs); n.refs == 0 {
		delete(t.to, n.id)
		delete(t.from, n.number)
	}
}
