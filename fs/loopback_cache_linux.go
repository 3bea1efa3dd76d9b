package fs

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// A file or a directory of a local file system that has not changed since it
// was opened last may keep what the kernel has cached of it. Whether it has is
// told by the time of its last change of status, which no program can set.

// lastOpen is what a node knows of the last open of its file.
type lastOpen struct {
	change  sys.LastChange
	emptied atomic.Int64  // when the kernel was last made to drop its cache, ns
	looked  atomic.Uint32 // names looked up in the directory since it was listed
	aside   atomic.Uint32 // how many more listings go without the cache
}

// keepData is for how long data may be kept. Who writes to the file below
// through a mapping does not always change its times.
const keepData = time.Second

// keepsFile reports whether the kernel may keep the data of a file that is
// being opened and whose attributes are st.
func (n *LoopbackNode) keepsFile(st *unix.Statx_t) bool {
	if !n.RootData.open.local || !n.embed().pooled {
		return false
	}
	now := time.Now().UnixNano()
	if n.last.change.None(st, now) && uint64(now-n.last.emptied.Load()) < uint64(keepData) {
		return true
	}
	n.last.emptied.Store(now)
	return false
}

// Names that are looked up one by one after a listing were wanted with it: a
// listing that is read anew brings their attributes along, a cached one does
// not.
const (
	manyLookups  = 16 // that follow one listing
	asideAtATime = 16 // listings
)

// listFlags are the FOPEN_ flags for a directory that is being opened and
// whose attributes are st.
func (n *LoopbackNode) listFlags(st *unix.Statx_t) uint32 {
	if !n.RootData.open.local || !n.embed().pooled {
		return 0
	}
	same := n.last.change.None(st, time.Now().UnixNano())
	if n.last.looked.Swap(0) > manyLookups {
		n.last.aside.Store(asideAtATime)
	}
	if left := n.last.aside.Load(); left > 0 {
		n.last.aside.Store(left - 1)
		return 0
	}
	if same {
		return fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	}
	return fuse.FOPEN_CACHE_DIR
}
