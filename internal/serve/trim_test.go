package serve

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicefs/sluice/internal/mmap"
)

// countingTree counts how often it was trimmed, and trims a mapping.
type countingTree struct {
	m *mmap.Map
	n atomic.Int64
}

func (c *countingTree) Trim() {
	c.n.Add(1)
	if c.m != nil {
		c.m.Trim()
	}
}

// Many images have one goroutine between them, which trims all of them when
// much is in memory, and none that was closed.
func TestTrimOfManyTrees(t *testing.T) {
	name := filepath.Join(t.TempDir(), "metadata")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, trimAbove+trimStep); err != nil {
		t.Fatal(err)
	}
	m, err := mmap.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	before := runtime.NumGoroutine()
	trees := make([]countingTree, 1000)
	trees[500].m = m
	trimmers := make([]*trimmer, len(trees))
	for i := range trees {
		trimmers[i] = keepSmall(&trees[i])
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d more goroutines for %d trees", n, len(trees))
	}
	if err := trimmers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if mappedMemory() > 0 {
		sum := byte(0)
		for i := 0; i < len(m.Bytes()); i += os.Getpagesize() {
			sum += m.Bytes()[i]
		}
		if mappedMemory() < int64(len(m.Bytes())) && trees[1].n.Load() == 0 {
			t.Errorf("%d bytes of files in memory, sum %d", mappedMemory(), sum)
		}
		for end := time.Now().Add(time.Minute); trees[1].n.Load() == 0 || trees[999].n.Load() == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never trimmed")
			}
		}
	}
	for _, k := range trimmers {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := trees[0].n.Load(); n != 0 {
		t.Errorf("a closed tree was trimmed %d times", n)
	}
	again := keepSmall(&trees[0]) // after the last
	defer again.Close()
	if len(trims.trees) != 1 {
		t.Errorf("%d trees are trimmed, want 1", len(trims.trees))
	}
}
