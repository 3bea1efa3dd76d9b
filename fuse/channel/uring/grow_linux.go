package uring

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// grow registers entries in place of those that blocked handlers hold. The
// owner calls it.
func (q *queue) grow() {
	n := min(int(q.want.Swap(0)), q.c.opts.MaxDepth-len(q.slots))
	if n <= 0 {
		return
	}
	first := len(q.slots)
	if q.addSlots(n) != nil {
		return // no memory: the queue goes on with what it has
	}
	for _, s := range q.slots[first:] {
		q.register(s)
	}
	// A new entry does not pick up what waits already; only a commit does.
	for range n {
		q.kick()
	}
}

// kick has a request made on the queue's processor, whose commit sets waiting
// requests going.
func (q *queue) kick() {
	if q.c.opts.Path == "" {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if q.kicks == nil {
		q.kicks = make(chan struct{}, q.c.opts.MaxDepth)
		go q.kicker(q.kicks)
	}
	select {
	case q.kicks <- struct{}{}:
	default: // as many are under way as there can be entries
	}
}

// kicker calls statfs on its own mount. It is not waited for: after the end of
// the session its call fails, and it leaves.
func (q *queue) kicker(kicks <-chan struct{}) {
	runtime.LockOSThread()
	if sys.BindThread(q.cpu) != nil {
		return // requests of this processor do not come from here
	}
	for range kicks {
		var st unix.Statfs_t
		_ = unix.Statfs(q.c.opts.Path, &st)
	}
}
