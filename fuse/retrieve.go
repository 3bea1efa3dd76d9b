package fuse

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A Retrieval is cached data of a file on its way back from the kernel.
type Retrieval struct {
	dest []byte
	n    int
	st   Status
	once sync.Once
	done chan struct{}
	gone atomic.Bool // nobody waits: dest is not to be touched
	mu   sync.Mutex  // held while dest is filled
}

// Retrieve asks for what the kernel has cached of node from offset on, at most
// len(dest) bytes and no more than fit a request. dest is the kernel's until
// Done is closed or Wait has returned.
func (q *Notifier) Retrieve(node uint64, offset int64, dest []byte) *Retrieval {
	if q.base != nil {
		return q.base.Retrieve(q.view.Node(node), offset, dest)
	}
	a := &Retrieval{dest: dest, done: make(chan struct{})}
	if offset < 0 {
		a.finish(0, EINVAL)
		return a
	}
	size := min(len(dest), q.maxRetrieve())
	q.mu.Lock()
	if q.closed || len(q.asks) >= maxRetrievals {
		st := EAGAIN
		if q.closed {
			st = Status(syscall.ENODEV)
		}
		q.mu.Unlock()
		a.finish(0, st)
		return a
	}
	q.asked++
	id := q.asked
	q.asks[id] = a
	q.mu.Unlock()
	n := q.add(&Notice{code: wire.NotifyRetrieve, node: node, child: id, off: offset, size: int64(size), ask: a})
	a.onFail(n, func() {
		q.mu.Lock()
		delete(q.asks, id)
		q.mu.Unlock()
	})
	return a
}

// onFail runs f when n was refused, so that no answer will come.
func (a *Retrieval) onFail(n *Notice, f func()) {
	select {
	case <-n.done:
		if n.st != OK {
			f()
		}
	default:
		go func() {
			<-n.done
			if n.st != OK {
				f()
			}
		}()
	}
}

// maxRetrieve is the most bytes that may be asked for. It stays a page below
// what a request carries: Linux (6.18) copies an answer that fills the
// payload buffer of a ring entry beyond its end and is lost.
func (q *Notifier) maxRetrieve() int {
	p := q.agreed()
	n := min(int(p.MaxWrite), int(p.MaxPages)*pageSize)
	if most := q.e.ch.Caps().MaxPayload; most > 0 {
		n = min(n, most)
	}
	return max(n-pageSize, 0)
}

// maxStore is the most bytes of one STORE.
func (q *Notifier) maxStore() int { return max(int(q.agreed().MaxWrite), 4096) }

// retrieved is called with the kernel's answer.
func (q *Notifier) retrieved(id uint64, data []byte) {
	q.mu.Lock()
	a := q.asks[id]
	delete(q.asks, id)
	q.mu.Unlock()
	if a == nil {
		q.e.stats.malformed.Add(1)
		return
	}
	a.mu.Lock()
	n := 0
	if !a.gone.Load() {
		n = copy(a.dest, data)
	}
	a.mu.Unlock()
	a.finish(n, OK)
}

func (a *Retrieval) finish(n int, st Status) {
	a.once.Do(func() {
		a.n, a.st = n, st
		close(a.done)
	})
}

// Done is closed when the answer is there.
func (a *Retrieval) Done() <-chan struct{} { return a.done }

// Wait waits for the answer: how many bytes of dest were filled, which is 0
// where nothing is cached, and OK; ENOENT if the kernel does not know the
// node. If ctx ends first it returns EINTR, and dest is the caller's again. It
// must not be called by a handler: the answer may need its reader.
func (a *Retrieval) Wait(ctx context.Context) (int, Status) {
	select {
	case <-a.done:
		return a.n, a.st
	case <-ctx.Done():
		a.mu.Lock()
		a.gone.Store(true)
		a.mu.Unlock()
		return 0, EINTR
	}
}
