package vfs

import (
	"sync"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// at calls the file system that a request is about: it finds it by the node
// id, puts that file system's own id in its place while call runs, and counts.
// All operations go through it.
func (f *FS) at(h *fuse.InHeader, call func(m *Mount) fuse.Status) (st fuse.Status) {
	outer := h.NodeId
	m, inner, ok := f.resolve(outer)
	if !ok {
		return estale
	}
	return f.on(m, inner, h, call)
}

// on is the second half of at.
func (f *FS) on(m *Mount, inner uint64, h *fuse.InHeader, call func(m *Mount) fuse.Status) (st fuse.Status) {
	outer := h.NodeId
	m.active.Add(1)
	defer m.leave(h, outer, &st)
	if m.state.Load() >= strictly {
		return estale
	}
	h.NodeId = inner
	if !f.opts.Measure {
		return call(m)
	}
	begin := f.elapsed()
	st = call(m)
	m.stats.took(h.Opcode, f.elapsed()-begin)
	return st
}

// elapsed is the time since the union was made. It reads one clock, which takes
// half as long as time.Now, with two.
func (f *FS) elapsed() time.Duration {
	if f.made.IsZero() {
		return time.Duration(f.opts.Now().UnixNano())
	}
	return time.Since(f.made)
}

// leave ends at, also when call panicked. A request that is answered late
// keeps the file system's id until then.
func (m *Mount) leave(h *fuse.InHeader, outer uint64, st *fuse.Status) {
	if *st != fuse.Pending {
		h.NodeId = outer
	}
	m.stats.count(h.Opcode, *st)
	m.leaveQuietly()
}

func (m *Mount) leaveQuietly() {
	if m.active.Add(-1) == 0 {
		m.wake()
	}
}

// resolve finds the file system and its own id for one of the kernel's.
func (f *FS) resolve(node uint64) (m *Mount, inner uint64, ok bool) {
	if node == fuse.FUSE_ROOT_ID {
		return f.root.Load(), node, true
	}
	if m = f.slot(node >> innerBits); m == nil {
		return nil, 0, false
	}
	inner, ok = m.inner(node & innerMask)
	return m, inner, ok
}

// same finds what another node id of a request means, in the file system that
// the request is about; EXDEV if it belongs to another.
func (f *FS) same(m *Mount, node uint64) (inner uint64, st fuse.Status) {
	other, inner, ok := f.resolve(node)
	switch {
	case !ok:
		return 0, estale
	case other != m:
		return 0, fuse.EXDEV
	}
	return inner, fuse.OK
}

// rootHandles has the open directories of node 1. What that node means can
// change, so the handles that the kernel gets for it are the union's own. The
// zero value is ready.
type rootHandles struct {
	mu   sync.RWMutex
	last uint64
	open map[uint64]rootHandle
}

type rootHandle struct {
	m  *Mount
	fh uint64
}

func (t *rootHandles) add(m *Mount, fh uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[uint64]rootHandle{}
	}
	t.last++
	t.open[t.last] = rootHandle{m, fh}
	return t.last
}

func (t *rootHandles) get(fh uint64) (rootHandle, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h, ok := t.open[fh]
	return h, ok
}

func (t *rootHandles) remove(fh uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, fh)
}

// atDir is at for an operation on an open directory.
func (f *FS) atDir(h *fuse.InHeader, fh *uint64, call func(m *Mount) fuse.Status) fuse.Status {
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return f.at(h, call)
	}
	open, ok := f.roots.get(*fh)
	if !ok { // opened without asking
		return f.at(h, call)
	}
	outer := *fh
	*fh = open.fh
	st := f.on(open.m, fuse.FUSE_ROOT_ID, h, call)
	if st != fuse.Pending {
		*fh = outer
	}
	return st
}
