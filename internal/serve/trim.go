package serve

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/sluicefs/sluice/image"
)

// A walk of a large image brings all of its metadata into memory. It lies in
// the system's cache of files, but counts as memory of this process, where
// limits of containers see it. So it is given back when files take more than
// trimAbove of it, the program itself included.
const (
	trimAbove = 40 << 20
	trimEvery = 500 * time.Millisecond
)

// trimmer trims a tree now and then.
type trimmer struct {
	stop chan struct{}
	done chan struct{}
}

func keepSmall(tree image.Trimmer) *trimmer {
	t := &trimmer{make(chan struct{}), make(chan struct{})}
	go func() {
		defer close(t.done)
		tick := time.NewTicker(trimEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-tick.C:
			}
			if mappedMemory() > trimAbove {
				tree.Trim()
			}
		}
	}()
	return t
}

// Close ends the trimming.
func (t *trimmer) Close() error {
	close(t.stop)
	<-t.done
	return nil
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
