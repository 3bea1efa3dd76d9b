package sys

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// CachedFD is a descriptor that many use and that may be closed while nobody
// does: its number + 1 in the high half, how many use it in the low one. The
// zero value is not open. Its methods may be called concurrently.
type CachedFD struct{ v atomic.Uint64 }

// Use returns the descriptor, to be ended by Put, or -1 if it is not open.
func (c *CachedFD) Use() int {
	for {
		v := c.v.Load()
		if v == 0 {
			return -1
		}
		if c.v.CompareAndSwap(v, v+1) {
			return int(v>>32) - 1
		}
	}
}

// Put ends a use.
func (c *CachedFD) Put() { c.v.Add(^uint64(0)) }

// Set makes fd the descriptor, with one user, unless there is one.
func (c *CachedFD) Set(fd int) bool { return c.v.CompareAndSwap(0, uint64(fd+1)<<32|1) }

// Drop closes the descriptor if nobody uses it, and reports whether it is
// closed now.
func (c *CachedFD) Drop() bool {
	v := c.v.Load()
	if v == 0 || uint32(v) != 0 || !c.v.CompareAndSwap(v, 0) {
		return v == 0
	}
	unix.Close(int(v>>32) - 1)
	return true
}

// FDCache bounds how many CachedFDs are open: a new one pushes out the one
// that was opened first, if that is not in use.
type FDCache struct {
	// Limit is how many may be open; it is set before the first use.
	Limit int

	mu    sync.Mutex
	queue []*CachedFD
}

// Add counts one that has just been opened.
func (c *FDCache) Add(fd *CachedFD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tries := 8; len(c.queue) >= c.Limit && tries > 0; tries-- {
		first := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if !first.Drop() {
			c.queue = append(c.queue, first)
		}
	}
	c.queue = append(c.queue, fd)
}

// Clear closes all that nobody uses and forgets them all.
func (c *FDCache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fd := range c.queue {
		fd.Drop()
	}
	c.queue = nil
}
