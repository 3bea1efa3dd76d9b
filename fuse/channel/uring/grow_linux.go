package uring

import (
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
	// fresh requests have to be made now, after the entry is there. One that
	// waits itself sets nothing going, which is why they are made anew.
	q.kick(n)
}

// kick has n requests made on the queue's processor, one after the other, whose
// commits set waiting requests going. It does not wait for the answers.
func (q *queue) kick(n int) {
	if q.c.opts.Path == "" || int(q.kicks.Load()) >= q.c.opts.MaxDepth {
		return
	}
	q.kicks.Add(1)
	go func() {
		defer q.kicks.Add(-1)
		// Without it, and where this process may not run on the processor,
		// requests wait for the next one that comes by itself.
		if k, err := sys.StartKick(q.c.path(), q.cpu, n); err == nil {
			_ = k.Wait()
		}
	}()
}

// path is the mount point as system calls take it.
func (c *Channel) path() []byte { return append([]byte(c.opts.Path), 0) }
