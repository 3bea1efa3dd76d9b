package vfs

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// Attached, replaced and detached again and again while others read: nobody
// sees content of before, an id is not given twice while the kernel may hold
// it, and nothing is left behind.
func TestIntegrationCycles(t *testing.T) {
	cycles := 4000 // 10,000 take 15 s
	if testing.Short() {
		cycles = 500
	}
	u := New(nil)
	dir, server := mounted(t, u)
	mustAttach(t, u, "/stays", newLeaf("stays"))
	flush(t, server)
	const paths = 8
	var end atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for k := 0; !end.Load(); k++ {
				if b, err := os.ReadFile(dir + "/stays/name"); err != nil || string(b) != "stays" {
					t.Errorf("what stays: %q, %v", b, err)
					return
				}
				// what comes and goes may be gone, or be of another cycle
				_, _ = os.ReadFile(fmt.Sprintf("%s/p%d/m/sub/deep", dir, k%paths))
			}
		})
	}
	var first, last runtime.MemStats
	for i := range cycles {
		p := fmt.Sprintf("/p%d/m", i%paths)
		text := fmt.Sprint("content ", i)
		var err error
		if u.At(p) == nil {
			_, err = u.Attach(p, newLeaf(text))
		} else {
			_, _, err = u.Replace(t.Context(), p, newLeaf(text), How(i%2 == 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		flush(t, server)
		mustRead(t, dir+p+"/name", text)
		if i%3 == 0 {
			if _, err := u.Detach(t.Context(), p, How(i%2 == 0)); err != nil {
				t.Fatal(err)
			}
		}
		if i == cycles/10 {
			runtime.GC()
			runtime.ReadMemStats(&first)
		}
	}
	end.Store(true)
	wg.Wait()
	for i := range paths {
		if p := fmt.Sprintf("/p%d/m", i); u.At(p) != nil {
			if _, err := u.Detach(t.Context(), p, Lazy); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for _, m := range u.Mounts() {
			open, nodes := m.InUse()
			t.Logf("left: %s slot %d state %d: %d open, %d nodes, %d active, stats %v", m.path, m.slot, m.state.Load(), open, nodes, m.active.Load(), m.Stats().Ops)
		}
	})
	// A walk that was stopped between two names while both were invalidated
	// leaves the second in the kernel below a first that nobody finds any more.
	// Older kernels keep it until memory is short.
	most := 1
	if !server.KernelSettings().SupportsNotify(fuse.NOTIFY_PRUNE) {
		most += paths
	}
	testenv.Until(t, "only what stays is left", func() bool { return len(u.Mounts()) <= most })
	runtime.GC()
	runtime.ReadMemStats(&last)
	if last.HeapAlloc > first.HeapAlloc+8<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", first.HeapAlloc, last.HeapAlloc)
	}
	t.Logf("heap after a tenth: %d KiB, at the end: %d KiB", first.HeapAlloc>>10, last.HeapAlloc>>10)
}
