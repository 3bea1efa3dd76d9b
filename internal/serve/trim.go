package serve

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sluicefs/sluice/image"
)

// A walk of a large image brings all of its metadata into memory. It lies in
// the system's cache of files, but counts as memory of this process, where
// limits of containers see it. So it is given back when files take more than
// trimAbove of it, the program itself included. What stays in memory after
// that is in use; the next time is when trimStep has come to it.
//
// A look at one inode maps 64 KiB around it (the kernel's fault_around_bytes),
// so that listing a large directory maps tens of megabytes in milliseconds:
// memory is looked at after so many inodes, and for all else by the clock.
const (
	trimAbove = 32 << 20
	trimStep  = 16 << 20
	trimEvery = 500 * time.Millisecond
)

// trims has the trees of this process that are trimmed. One goroutine does it
// for all of them, as there may be thousands, and ends with the last.
var trims struct {
	mu    sync.Mutex
	trees map[*trimmer]struct{}
	stop  chan struct{} // ends the goroutine

	looking sync.Mutex // before mu; guards above
	above   int64      // bytes in memory that are let be, not below trimAbove
}

// trimmer has a tree trimmed now and then, until Close.
type trimmer struct{ tree image.Trimmer }

func keepSmall(tree image.Trimmer) *trimmer {
	t := &trimmer{tree}
	trims.mu.Lock()
	defer trims.mu.Unlock()
	if len(trims.trees) == 0 {
		trims.trees, trims.stop = map[*trimmer]struct{}{}, make(chan struct{})
		go trimAll(trims.stop)
	}
	trims.trees[t] = struct{}{}
	return t
}

// Close ends the trimming of the tree: it is not called afterwards.
func (t *trimmer) Close() error {
	trims.mu.Lock()
	defer trims.mu.Unlock()
	if _, ok := trims.trees[t]; !ok {
		return nil
	}
	delete(trims.trees, t)
	if len(trims.trees) == 0 {
		close(trims.stop)
	}
	return nil
}

// trimIfLarge trims all trees if too much is in memory. One caller at a time does
// it, the others go on.
func trimIfLarge() {
	if !trims.looking.TryLock() {
		return
	}
	defer trims.looking.Unlock()
	if mappedMemory() <= max(trimAbove, trims.above) {
		return
	}
	trims.mu.Lock()
	for t := range trims.trees {
		t.tree.Trim()
	}
	trims.mu.Unlock()
	trims.above = mappedMemory() + trimStep
}

// trimAll trims now and then, until stop.
func trimAll(stop <-chan struct{}) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			trimIfLarge()
		}
	}
}

// mappedMemory returns the bytes of files that this process has in memory: 0
// where the system does not say.
func mappedMemory() int64 {
	b, err := os.ReadFile("/proc/self/statm") // size, resident, resident of files, …
	f := bytes.Fields(b)
	if err != nil || len(f) < 3 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[2]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
