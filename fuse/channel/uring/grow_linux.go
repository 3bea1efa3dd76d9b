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
	q.ring.RawFlush()
	// A new entry does not pick up what waits already; only a commit does. So
	// a fresh request has to be made now, after the entry is there. One that
	// waits itself sets nothing going, which is why each is made anew.
	for range n {
		q.kick()
	}
}

// kick has a request made on the queue's processor, whose commit sets waiting
// requests going. It does not wait for the answer.
func (q *queue) kick() {
	if q.c.opts.Path == "" || int(q.kicks.Load()) >= q.c.opts.MaxDepth {
		return
	}
	q.kicks.Add(1)
	go func() {
		defer q.kicks.Add(-1)
		runtime.LockOSThread() // the thread ends with us
		if sys.BindThread(q.cpu) != nil {
			return // requests of this processor do not come from here
		}
		var st unix.Statfs_t
		// After the end of the session it fails, which is as good.
		_ = unix.Statfs(q.c.opts.Path, &st)
	}()
}
