// Package uring carries a FUSE session over io_uring (Linux 6.14, where the
// module parameter enable_uring of fuse is on).
//
// The kernel queues a request on the processor of the task that made it, so
// there is one queue, one ring and one owner thread for each possible
// processor, bound to it: caller and server share warm caches, and no other
// core has to be woken, which is what a request over /dev/fuse mostly costs.
// One system call delivers answers and fetches requests. Only while the kernel
// reads ahead, in large requests, may an owner leave its processor, so that it
// copies while the caller does.
//
// What never comes by the rings (INIT, FORGET, INTERRUPT, everything before
// they are ready) comes by another channel, on the device, which this one
// decorates; notifications go out there too. If the rings cannot be had the
// session stays on the device, and Caps says why.
//
// # The owner's loop
//
// An owner first submits its answers and collects what has arrived, by a call
// that never sleeps and that Go's scheduler does not see; only when there is
// nothing to do it sleeps, in an ordinary system call. So nothing holds a P
// while it waits, and a stop-the-world is never late because of a ring:
// no signal and no rule for GOMAXPROCS is needed.
//
// # Slow handlers
//
// A handler runs on the owner's thread. If it blocks, its turn is stolen (at
// once if it says so, else by the monitor), and another thread owns the queue;
// the first one comes back as a spare. Its reply, like that of any request that
// is answered later, goes to the queue's list of late answers, and the owner
// submits it. A thread whose turn was stolen is kept, because the kernel hands
// each entry's next request to the thread that submitted the entry last; for
// the same reason rings are made without SINGLE_ISSUER and DEFER_TASKRUN.
// A request that waits for its answer holds its entry, so a queue gets more of
// them while many do, up to MaxDepth.
//
// Once several threads of a queue are lost to handlers it runs further ones on
// ordinary goroutines, so that thousands of blocked requests do not need as many
// threads.
//
// # Take-over
//
// Slots lie in memory that processes can share, with a journal of how far each
// request has come, so that a session can go to another process, by plan or
// after a crash: see [Resume]. Where there is no such memory each queue has its
// own, and the session stays where it is.
package uring

// DefaultDepth is how many entries a queue has to begin with. Four serve a
// quick file system as well; the rest give room before slow handlers are
// found out.
const DefaultDepth = 8

// DefaultMaxDepth is the least bound of a queue's entries, and DefaultMaxTotal
// what all queues may have together where they are so few that it is more. An
// entry takes address space for a whole payload, and memory as far as it was
// used.
const (
	DefaultMaxDepth = 256
	DefaultMaxTotal = 4096
)

// maxSlots is the most entries that a queue may have.
const maxSlots = 4096

// Options says how to make the rings. The zero value is the default.
type Options struct {
	Depth    int // entries of each queue at first
	MaxDepth int // entries of each queue at most; 0 = by the number of processors

	// Path is where the session is mounted. With it a queue whose entries
	// were all taken by slow handlers is set going again by a statfs of it;
	// without, its requests wait for the first of them, and the session cannot
	// go to another process.
	Path string

	// Private keeps slots in memory of this process only: the session cannot
	// go to another one.
	Private bool
}

func (o *Options) fill(queues int) {
	if o.Depth <= 0 {
		o.Depth = DefaultDepth
	}
	if o.MaxDepth <= 0 {
		o.MaxDepth = max(DefaultMaxDepth, min(DefaultMaxTotal/max(queues, 1), DefaultMaxTotal/2))
	}
	o.Depth = min(o.Depth, maxSlots)
	o.MaxDepth = min(max(o.MaxDepth, o.Depth), maxSlots)
}
