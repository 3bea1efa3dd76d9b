package vfs

import (
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/fuse"
)

// When a file system is detached the kernel drops the names in its root, with
// all below. Who is walking there at that moment, or has a directory of it as
// the current one, brings names back that nobody looks at again: below a
// directory without a name they would stay until memory is short. So a Mount
// remembers what it gave last, and what it gives once it is detached; that is
// dropped, too.

// trace is what a Mount remembers for that. The zero value is ready.
type trace struct {
	last atomic.Pointer[recent] // nil before the first node is given

	mu    sync.Mutex
	after map[name]bool // looked up since it was detached
}

// recent are the kernel's ids of the nodes that were given last: more than the
// answers that can be on their way to walkers.
type recent struct {
	next atomic.Uint32
	ids  [recentNodes]atomic.Uint64
}

const recentNodes = 512

// maxAfter bounds the names that are remembered, well below what the queue of
// notices holds: one that overflows has the names of all file systems looked up
// again, each time that these are dropped.
const maxAfter = 1 << 14

// name is an entry of a directory, given by the kernel's id.
type name struct {
	dir  uint64
	name string
}

// gave remembers a node that the kernel gets.
func (t *trace) gave(id uint64) {
	r := t.last.Load()
	if r == nil {
		t.last.CompareAndSwap(nil, new(recent))
		r = t.last.Load()
	}
	r.ids[r.next.Add(1)%recentNodes].Store(id)
}

// looked remembers a name that was looked up in a file system that is detached.
func (t *trace) looked(dir uint64, s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.after) >= maxAfter {
		return
	}
	if t.after == nil {
		t.after = map[name]bool{}
	}
	t.after[name{dir, s}] = true
}

// drop has the kernel drop what is remembered and not in use. Kernels before
// 7.45 (Linux 6.18) cannot be told of nodes, only of names.
func (t *trace) drop(server *fuse.Server) {
	q := server.Notifier()
	t.mu.Lock()
	for n := range t.after {
		q.Entry(n.dir, n.name)
	}
	t.mu.Unlock()
	r := t.last.Load()
	if r == nil || !server.KernelSettings().SupportsNotify(fuse.NOTIFY_PRUNE) {
		return
	}
	ids := make([]uint64, 0, recentNodes)
	for i := range r.ids {
		if id := r.ids[i].Load(); id != 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		q.Prune(ids)
	}
}
