package fs

import (
	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

type lastOpen = sys.LastOpen

// keepsFile reports whether the kernel may keep the data of a file that is
// being opened and whose attributes are st.
func (n *LoopbackNode) keepsFile(st *unix.Statx_t) bool {
	return n.RootData.open.local && n.embed().pooled && n.last.KeepsData(st)
}

// listFlags are the FOPEN_ flags for a directory that is being opened and
// whose attributes are st.
func (n *LoopbackNode) listFlags(st *unix.Statx_t) uint32 {
	if !n.RootData.open.local || !n.embed().pooled {
		return 0
	}
	cache, keep := n.last.Listing(st)
	switch {
	case keep:
		return fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	case cache:
		return fuse.FOPEN_CACHE_DIR
	}
	return 0
}
