package fuse

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A Notifier tells the kernel what changed behind its back. Its methods only
// queue: they never wait for the kernel and may be called from anywhere, also
// from a handler and with any lock held. One goroutine of the session sends
// what is queued, in order, and merges what can be merged: the kernel takes
// locks for a notification that are freed by the answers to other requests, so
// that a server that sends from a handler sooner or later waits for itself.
//
// Each method returns a [*Notice], through which the kernel's answer can be
// waited for where that is safe. A queue holds at most maxNotices; beyond that
// names are expired all at once (IncEpoch) where the kernel can, and the rest
// is refused with EAGAIN.
type Notifier struct {
	e    *engine
	base *Notifier // of a view (Server.View): where everything goes,
	view NodeMap   // with these ids

	mu     sync.Mutex // a leaf
	cond   sync.Cond
	queue  []*Notice
	nodes  map[uint64]*Notice    // last queued notice about a node's content
	names  map[nameKey]*Notice   // last queued notice about a name
	last   [maxNotify]*Notice    // last queued one of kinds without a subject
	opened bool                  // INIT is done
	closed bool                  // no more are taken
	done   chan struct{}         // the goroutine has ended
	sent   [maxNotify]uint64     // by code; guarded by mu
	merged uint64                // notices that were merged into another
	asks   map[uint64]*Retrieval // by notify_unique
	asked  uint64

	ended atomic.Uint64 // notices that the kernel has answered
	held  atomic.Uint64 // what ended was, plus 1, when a handler gave up waiting
	hurry atomic.Int64  // how much less long than handlerPatience handlers wait, ns
}

const (
	maxNotices    = 1 << 16
	maxRetrievals = 64
	maxNotify     = int(wire.NotifyPrune) + 1
)

type nameKey struct {
	parent uint64
	name   string
}

// A Notice is a queued notification. Several calls share one if they were
// merged.
type Notice struct {
	code  wire.NotifyCode
	node  uint64 // or parent, or the kh of POLL
	child uint64
	name  string
	off   int64
	size  int64
	data  []byte
	nodes []uint64
	flags uint32
	ask   *Retrieval

	done chan struct{}
	st   Status // set before done is closed
}

// Done is closed when the kernel has answered, or will not any more.
func (n *Notice) Done() <-chan struct{} { return n.done }

// Wait waits for the kernel's answer: OK, ENOENT where it did not know the
// node or name (which is fine: nothing was cached), ENODEV after the session,
// or ctx's error as EINTR. It must not be called by a handler.
func (n *Notice) Wait(ctx context.Context) Status {
	select {
	case <-n.done:
		return n.st
	case <-ctx.Done():
		return EINTR
	}
}

func (n *Notice) finish(st Status) {
	n.st = st
	close(n.done)
	if n.ask != nil && st != OK {
		n.ask.finish(0, st)
	}
}

func newNotifier(e *engine) *Notifier {
	n := &Notifier{
		e: e, done: make(chan struct{}),
		nodes: make(map[uint64]*Notice), names: make(map[nameKey]*Notice),
		asks: make(map[uint64]*Retrieval),
	}
	n.cond.L = &n.mu
	return n
}

// open begins to send.
func (q *Notifier) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.opened && !q.closed {
		q.opened = true
		go q.run()
	}
}

// close ends the goroutine after the notice that it is sending, and gives up
// the rest. The channel has ended or is about to, so that sending ends too.
func (q *Notifier) close() {
	q.mu.Lock()
	q.closed = true
	rest := q.queue
	q.queue = nil
	asks := q.asks
	q.asks = make(map[uint64]*Retrieval)
	running := q.opened
	q.cond.Broadcast()
	q.mu.Unlock()
	for _, n := range rest {
		n.finish(Status(syscall.ENODEV))
	}
	for _, a := range asks {
		a.finish(0, Status(syscall.ENODEV))
	}
	if running {
		<-q.done
	}
}

// Flush waits until all that was queued before has been sent.
func (q *Notifier) Flush(ctx context.Context) error {
	if q.base != nil {
		return q.base.Flush(ctx)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	n := &Notice{done: make(chan struct{})} // a mark: code 0 is not sent
	q.queue = append(q.queue, n)
	q.cond.Signal()
	q.mu.Unlock()
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Inode drops node's attributes, and the cached data from offset on: length
// bytes, or all if length is 0 or negative. A negative offset drops the
// attributes only.
func (q *Notifier) Inode(node uint64, offset, length int64) *Notice {
	return q.add(&Notice{code: wire.NotifyInvalInode, node: node, off: offset, size: length})
}

// Entry drops a name of a directory, and what is below it.
func (q *Notifier) Entry(parent uint64, name string) *Notice {
	return q.add(&Notice{code: wire.NotifyInvalEntry, node: parent, name: name})
}

// Expire makes the kernel look a name up again when it is next used; unlike
// Entry it takes nothing away from those who use it. An older kernel (before
// 7.38) drops the name.
func (q *Notifier) Expire(parent uint64, name string) *Notice {
	return q.add(&Notice{code: wire.NotifyInvalEntry, node: parent, name: name, flags: wire.ExpireOnly})
}

// Delete says that a name, which was child's, is gone: like Entry, and those
// who watch or use child as a directory are told.
func (q *Notifier) Delete(parent, child uint64, name string) *Notice {
	return q.add(&Notice{code: wire.NotifyDelete, node: parent, child: child, name: name})
}

// Store puts a copy of data into the kernel's cache of a regular file, which
// grows if need be.
func (q *Notifier) Store(node uint64, offset int64, data []byte) *Notice {
	return q.add(&Notice{
		code: wire.NotifyStore, node: node, off: offset, size: int64(len(data)),
		data: append([]byte(nil), data...),
	})
}

// Poll wakes those who wait on the poll handle kh (PollIn.Kh).
func (q *Notifier) Poll(kh uint64) *Notice {
	return q.add(&Notice{code: wire.NotifyPoll, node: kh})
}

// Resend makes the kernel hand out again each request that was read from the
// device and has no answer: the first thing that a successor does. Request.
// Resent tells them apart. (7.40)
func (q *Notifier) Resend() *Notice { return q.add(&Notice{code: wire.NotifyResend}) }

// IncEpoch expires all names at once, whatever their number. (7.44)
func (q *Notifier) IncEpoch() *Notice { return q.add(&Notice{code: wire.NotifyIncEpoch}) }

// Prune asks the kernel to forget nodes that nobody uses, so that their
// FORGETs come. (7.45)
func (q *Notifier) Prune(nodes []uint64) *Notice {
	return q.add(&Notice{code: wire.NotifyPrune, nodes: append([]uint64(nil), nodes...)})
}

// refused makes a notice that ends at once.
func refused(n *Notice, st Status) *Notice {
	n.done = make(chan struct{})
	n.finish(st)
	return n
}

// add queues n, or merges it into one that waits.
func (q *Notifier) add(n *Notice) *Notice {
	if q.base != nil {
		n.translate(q.view)
		return q.base.add(n)
	}
	if st := n.check(); !st.Ok() {
		return refused(n, st)
	}
	if q.e.state.Load() == sessionOn && !q.e.initIn.SupportsNotify(int(n.code)) {
		return refused(n, ENOSYS)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return refused(n, Status(syscall.ENODEV))
	}
	if old := q.merge(n); old != nil {
		q.merged++
		return old
	}
	if len(q.queue) >= maxNotices {
		if n.code != wire.NotifyInvalEntry || q.agreed().Minor < 44 {
			return refused(n, EAGAIN)
		}
		n = &Notice{code: wire.NotifyIncEpoch}
		if old := q.merge(n); old != nil {
			return old
		}
	}
	n.done = make(chan struct{})
	q.remember(n)
	q.queue = append(q.queue, n)
	q.cond.Signal()
	return n
}

// agreed is what was agreed in INIT, the zero Params before.
func (q *Notifier) agreed() channel.Params {
	if q.e.state.Load() == sessionNew {
		return channel.Params{}
	}
	return q.e.params
}

func (n *Notice) check() Status {
	switch n.code {
	case wire.NotifyInvalEntry, wire.NotifyDelete:
		if n.name == "" || len(n.name) > wire.MaxName || strings.ContainsAny(n.name, "/\x00") {
			return EINVAL
		}
	case wire.NotifyStore:
		if n.off < 0 {
			return EINVAL
		}
	}
	return OK
}

// remember makes n the one that later calls merge into.
func (q *Notifier) remember(n *Notice) {
	switch n.code {
	case wire.NotifyInvalInode, wire.NotifyStore, wire.NotifyRetrieve:
		q.nodes[n.node] = n
	case wire.NotifyInvalEntry, wire.NotifyDelete:
		q.names[nameKey{n.node, n.name}] = n
	case wire.NotifyResend, wire.NotifyIncEpoch:
		q.last[n.code] = n
	case wire.NotifyPoll:
		q.names[nameKey{n.node, "/"}] = n // no name has a slash
	}
}

// take ends merging into n, which is about to be sent.
func (q *Notifier) take(n *Notice) {
	switch n.code {
	case wire.NotifyInvalInode, wire.NotifyStore, wire.NotifyRetrieve:
		if q.nodes[n.node] == n {
			delete(q.nodes, n.node)
		}
	case wire.NotifyInvalEntry, wire.NotifyDelete, wire.NotifyPoll:
		key := nameKey{n.node, n.name}
		if n.code == wire.NotifyPoll {
			key.name = "/"
		}
		if q.names[key] == n {
			delete(q.names, key)
		}
	case wire.NotifyResend, wire.NotifyIncEpoch:
		if q.last[n.code] == n {
			q.last[n.code] = nil
		}
	}
}

// merge looks for a queued notice that says, or can be made to say, what n
// does too. Only the last one about the same subject will do: what came after
// it would otherwise be overtaken.
func (q *Notifier) merge(n *Notice) *Notice {
	switch n.code {
	case wire.NotifyInvalInode:
		old := q.nodes[n.node]
		if old != nil && old.code == n.code && old.join(n) {
			return old
		}
	case wire.NotifyInvalEntry, wire.NotifyDelete:
		old := q.names[nameKey{n.node, n.name}]
		if old == nil {
			return nil
		}
		switch {
		case old.code == wire.NotifyDelete && n.code == wire.NotifyDelete && old.child != n.child:
			return nil
		case old.code == wire.NotifyDelete && n.code == wire.NotifyInvalEntry:
			return old
		case n.code == wire.NotifyDelete:
			old.code, old.child, old.flags = n.code, n.child, 0
			return old
		}
		old.flags &= n.flags // dropping is more than expiring
		return old
	case wire.NotifyPoll:
		return q.names[nameKey{n.node, "/"}]
	case wire.NotifyResend, wire.NotifyIncEpoch:
		return q.last[n.code]
	}
	return nil
}

// join widens n to what more drops too, if the two ranges touch.
func (n *Notice) join(more *Notice) bool {
	if more.off < 0 { // attributes only: any will do
		return true
	}
	if n.off < 0 {
		n.off, n.size = more.off, more.size
		return true
	}
	end, moreEnd := n.end(), more.end()
	if more.off > end || n.off > moreEnd {
		return false
	}
	n.off = min(n.off, more.off)
	if end = max(end, moreEnd); end == maxOffset {
		n.size = 0
	} else {
		n.size = end - n.off
	}
	return true
}

const maxOffset = 1<<63 - 1

func (n *Notice) end() int64 {
	if n.size <= 0 || n.off > maxOffset-n.size {
		return maxOffset
	}
	return n.off + n.size
}

// run sends what is queued until close.
func (q *Notifier) run() {
	defer close(q.done)
	var buf []byte
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.queue) == 0 && !q.closed {
			q.cond.Wait()
		}
		if q.closed {
			return
		}
		n := q.queue[0]
		q.queue[0] = nil
		q.queue = q.queue[1:]
		q.take(n)
		q.sent[n.code]++
		q.mu.Unlock()
		st := OK
		if n.code != 0 {
			if q.e.params.Flags&CAP_HAS_EXPIRE_ONLY == 0 {
				n.flags = 0
			}
			buf = n.append(buf[:0])
			st = ToStatus(q.e.ch.Notify(buf))
			if t := q.e.trace.Load(); t != nil {
				t.notified(n, st)
			}
		}
		q.ended.Add(1)
		n.finish(st)
		if cap(buf) > 1<<16 {
			buf = nil
		}
		q.mu.Lock()
	}
}

// append appends the message that says n.
func (n *Notice) append(b []byte) []byte {
	ne := nativeEndian
	b = wire.AppendOutHeader(b, wire.OutHeader{Error: int32(n.code)})
	switch n.code {
	case wire.NotifyPoll:
		b = ne.AppendUint64(b, n.node)
	case wire.NotifyInvalInode:
		b = ne.AppendUint64(b, n.node)
		b = ne.AppendUint64(b, uint64(n.off))
		b = ne.AppendUint64(b, uint64(max(n.size, 0)))
	case wire.NotifyInvalEntry:
		b = ne.AppendUint64(b, n.node)
		b = ne.AppendUint32(b, uint32(len(n.name)))
		b = ne.AppendUint32(b, n.flags)
		b = append(append(b, n.name...), 0)
	case wire.NotifyDelete:
		b = ne.AppendUint64(b, n.node)
		b = ne.AppendUint64(b, n.child)
		b = ne.AppendUint32(b, uint32(len(n.name)))
		b = ne.AppendUint32(b, 0)
		b = append(append(b, n.name...), 0)
	case wire.NotifyStore:
		b = ne.AppendUint64(b, n.node)
		b = ne.AppendUint64(b, uint64(n.off))
		b = ne.AppendUint32(b, uint32(len(n.data)))
		b = ne.AppendUint32(b, 0)
		b = append(b, n.data...)
	case wire.NotifyRetrieve:
		b = ne.AppendUint64(b, n.child)
		b = ne.AppendUint64(b, n.node)
		b = ne.AppendUint64(b, uint64(n.off))
		b = ne.AppendUint32(b, uint32(n.size))
		b = ne.AppendUint32(b, 0)
	case wire.NotifyPrune:
		b = ne.AppendUint32(b, uint32(len(n.nodes)))
		b = ne.AppendUint32(b, 0)
		b = ne.AppendUint64(b, 0)
		for _, node := range n.nodes {
			b = ne.AppendUint64(b, node)
		}
	}
	ne.PutUint32(b, uint32(len(b)))
	return b
}

// notifyPatience is how long the calls that answer with the kernel's status
// wait for it: whoever calls them with a lock held that a handler needs goes
// on after that, with the notice still queued. A handler waits too, since one
// that drops cached data wants that done before its caller goes on; but less
// long, as the kernel may hold the notice back until that handler answers.
const (
	notifyPatience  = 250 * time.Millisecond
	handlerPatience = 100 * time.Millisecond
	leastPatience   = time.Millisecond
)

// await waits for the kernel's answer, for as long as patience lasts.
func (q *Notifier) await(n *Notice) Status {
	select {
	case <-n.done:
		return n.st
	default:
	}
	if inHandler() {
		return q.awaitInHandler(n)
	}
	st, _ := n.await(notifyPatience)
	return st
}

// awaitInHandler waits less long after each wait that was in vain, until one
// was not; and not at all while the kernel still has the notice before which
// the last one was given up. So a handler that notifies the kernel a thousand
// times of the directory that is locked for it takes one wait longer, no more.
func (q *Notifier) awaitInHandler(n *Notice) Status {
	if q.base != nil {
		q = q.base
	}
	ended := q.ended.Load()
	if q.held.Load() == ended+1 {
		return OK
	}
	patience := handlerPatience - time.Duration(q.hurry.Load())
	st, ok := n.await(patience)
	if ok {
		q.hurry.Store(0)
	} else {
		q.hurry.Store(int64(handlerPatience - max(patience/4, leastPatience)))
		q.held.Store(ended + 1) // if some were answered meanwhile, this says nothing
	}
	return st
}

// await waits for the kernel's answer and reports whether it came in time.
func (n *Notice) await(patience time.Duration) (Status, bool) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-n.done:
		return n.st, true
	case <-t.C:
		return OK, false
	}
}

// inHandler reports whether a handler is among the callers.
func inHandler() bool {
	var pcs [128]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "fuse.(*engine).call") || strings.HasSuffix(f.Function, "fuse.(*engine).guard") {
			return true
		}
		if !more {
			return false
		}
	}
}
