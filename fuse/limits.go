package fuse

import (
	"sync"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A Class groups operations that wait for the same kind of thing, so that one
// kind cannot use up what another needs.
type Class int

// The classes of operations.
const (
	ClassMeta  Class = iota // names, attributes, opening and closing
	ClassRead               // READ
	ClassWrite              // WRITE, FALLOCATE, COPY_FILE_RANGE
	ClassDir                // READDIR, READDIRPLUS
	ClassSync               // FLUSH, FSYNC, FSYNCDIR, SYNCFS
	ClassLock               // SETLKW: waits for others by its nature
	numClasses
)

// String returns the class's name, such as "read".
func (c Class) String() string {
	if c < 0 || c >= numClasses {
		return "unknown"
	}
	return [numClasses]string{"meta", "read", "write", "dir", "sync", "lock"}[c]
}

var classOf = func() (of [wire.OpLimit]Class) {
	for class, ops := range map[Class][]wire.Opcode{
		ClassRead:  {wire.OpRead},
		ClassWrite: {wire.OpWrite, wire.OpFallocate, wire.OpCopyFileRange, wire.OpCopyFileRange64},
		ClassDir:   {wire.OpReaddir, wire.OpReaddirplus},
		ClassSync:  {wire.OpFlush, wire.OpFsync, wire.OpFsyncdir, wire.OpSyncfs},
		ClassLock:  {wire.OpSetlkw},
	} {
		for _, op := range ops {
			of[op] = class
		}
	}
	return of
}()

// A Limit bounds what the operations of one class use. The zero value bounds
// nothing.
type Limit struct {
	// Requests is the most that run at a time; more wait, and their readers
	// go on. 0 = no bound.
	Requests int
	// Bytes is the most data that the requests which run have asked to read
	// or write. One larger request runs alone. 0 = no bound.
	Bytes int64
	// Deadline is how long a request may wait for its turn and run before
	// its cancel channel is closed. The answer stays the handler's, unless
	// Expired says otherwise; a request that waited for its turn until then is
	// answered with ETIMEDOUT. 0 = none.
	Deadline time.Duration
	// Expired, if not OK, is what the caller is told at the Deadline, say
	// ETIMEDOUT or EINTR, while the handler may go on. What that answers
	// later is dropped, and references and handles that it gave are taken
	// back; but what it changes, it changes. The requests of such a class are
	// copied and run on goroutines of their own.
	Expired Status
}

// classLimit enforces a Limit. Waiters are served in order.
type classLimit struct {
	Limit
	mu      sync.Mutex // a leaf
	running int
	bytes   int64
	queue   []*waiter
}

type waiter struct {
	bytes int64
	ready chan struct{}
}

func newLimits(limits map[Class]Limit) (all [numClasses]*classLimit) {
	for c, l := range limits {
		if c >= 0 && c < numClasses && l != (Limit{}) {
			all[c] = &classLimit{Limit: l}
		}
	}
	return all
}

// admit waits for r's turn, and starts its deadline.
func (l *classLimit) admit(r *Request) Status {
	size := r.dataSize()
	var expired <-chan time.Time
	if l.Deadline > 0 {
		unique := r.unique.Load()
		t := time.AfterFunc(l.Deadline, func() { r.interrupt(unique) })
		r.deadline = t
	}
	l.mu.Lock()
	if len(l.queue) == 0 && l.fits(size) {
		l.enter(size)
		l.mu.Unlock()
		r.limit, r.charge = l, size
		return OK
	}
	w := &waiter{size, make(chan struct{})}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	r.msg.Slot.Block()
	if l.Deadline > 0 {
		t := time.NewTimer(l.Deadline)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-w.ready:
	case <-expired:
		if l.giveUp(w) {
			return Status(syscall.ETIMEDOUT)
		}
	case <-r.cancel:
		if l.giveUp(w) {
			if l.Deadline > 0 && time.Since(r.start) >= l.Deadline {
				return Status(syscall.ETIMEDOUT)
			}
			return EINTR
		}
	}
	r.limit, r.charge = l, size
	return OK
}

// dataSize is how many bytes r is to read or write.
func (r *Request) dataSize() int64 {
	switch r.Op() {
	case wire.OpRead, wire.OpReaddir, wire.OpReaddirplus:
		return int64(inAs[ReadIn](r).Size)
	case wire.OpWrite:
		return int64(inAs[WriteIn](r).Size)
	}
	return 0
}

func (l *classLimit) fits(size int64) bool {
	return (l.Requests <= 0 || l.running < l.Requests) &&
		(l.Bytes <= 0 || l.running == 0 || l.bytes+size <= l.Bytes)
}

func (l *classLimit) enter(size int64) {
	l.running++
	l.bytes += size
}

// leave frees what a request used, and lets in those who then fit.
func (l *classLimit) leave(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.bytes -= size
	l.admitQueued()
}

func (l *classLimit) admitQueued() {
	for len(l.queue) > 0 && l.fits(l.queue[0].bytes) {
		w := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.enter(w.bytes)
		close(w.ready)
	}
}

// giveUp takes w out of the queue; it reports false if its turn has come.
func (l *classLimit) giveUp(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if q == w {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			l.admitQueued()
			return true
		}
	}
	return false
}
