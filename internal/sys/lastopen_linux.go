package sys

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// LastOpen is what a FUSE file system knows of the last open of a file, or a
// directory, of a local file system: one that has not changed since may keep
// what the kernel has cached of it. The zero value was never open; the methods
// may be called concurrently.
type LastOpen struct {
	change  LastChange
	emptied atomic.Int64  // when the kernel was last made to drop its cache, ns
	looked  atomic.Uint32 // names looked up in the directory since it was listed
	aside   atomic.Uint32 // how many more listings go without the cache
}

// keepData is for how long data may be kept. Who writes to the file below
// through a mapping does not always change its times.
const keepData = time.Second

// KeepsData reports whether the kernel may keep the data of a file that is
// being opened and whose attributes are st.
func (o *LastOpen) KeepsData(st *unix.Statx_t) bool {
	now := time.Now().UnixNano()
	if o.change.None(st, now) && uint64(now-o.emptied.Load()) < uint64(keepData) {
		return true
	}
	o.emptied.Store(now)
	return false
}

// Names that are looked up one by one after a listing were wanted with it: a
// listing that is read anew brings their attributes along, a cached one does
// not.
const (
	manyLookups  = 16 // that follow one listing
	asideAtATime = 16 // listings
)

// Looked counts a name that was looked up in the directory.
func (o *LastOpen) Looked() { o.looked.Add(1) }

// Listing tells, of a directory that is being opened and whose attributes are
// st, whether its listing may be cached, and whether the one that is may be
// kept.
func (o *LastOpen) Listing(st *unix.Statx_t) (cache, keep bool) {
	keep = o.change.None(st, time.Now().UnixNano())
	if o.looked.Swap(0) > manyLookups {
		o.aside.Store(asideAtATime)
	}
	if left := o.aside.Load(); left > 0 {
		o.aside.Store(left - 1)
		return false, false
	}
	return true, keep
}
