package sys

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// LastChange tells whether a file of a local file system has changed since it
// was looked at last, by the time of its last change of status, which no
// program can set. The zero value has not looked yet; its method may be called
// concurrently.
type LastChange struct {
	ctime atomic.Int64 // as it was then, ns; 0: not to be relied upon
}

// Settled is how old a change must be for a later one to have another time:
// the clock of old kernels moves on every 10 ms at worst.
const Settled = 100 * time.Millisecond

// None notes the attributes st of a file as they are now, in ns since 1970,
// and reports whether they are as the last call found them.
func (c *LastChange) None(st *unix.Statx_t, now int64) bool {
	ctime := st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec)
	found := ctime
	if now-ctime < int64(Settled) { // or ahead of the clock
		found = 0
	}
	return c.ctime.Swap(found) == ctime && found != 0
}
