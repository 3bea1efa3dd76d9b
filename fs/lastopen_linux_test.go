package fs

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
)

func ctimeAt(at time.Duration) *unix.Statx_t {
	return &unix.Statx_t{Ctime: unix.StatxTimestamp{Sec: int64(at / time.Second), Nsec: uint32(at % time.Second)}}
}

// TestLoopbackListFlags lists a directory that does not change: by the cache,
// until many of its names are looked up after a listing.
func TestLoopbackListFlags(t *testing.T) {
	root, err := NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	NewNodeFS(root, nil)
	n := root.(*LoopbackNode)
	n.RootData.open.local = true
	const cached = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	expect := func(what string, want uint32) {
		t.Helper()
		if got := n.listFlags(ctimeAt(time.Hour)); got != want {
			t.Errorf("%s: flags %#x, want %#x", what, got, want)
		}
	}
	expect("first listing", fuse.FOPEN_CACHE_DIR)
	expect("second listing", cached)
	n.last.looked.Store(manyLookups)
	expect("after some look-ups", cached)
	n.last.looked.Store(manyLookups + 1)
	for range asideAtATime {
		expect("after many look-ups", 0)
	}
	expect("later", cached)
	n.embed().pooled = false
	expect("a node of another type", 0)
}
