package daemon

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/vfs"
)

// measured is a backend that counts what is read from it.
type measured struct {
	storage.Backend
	reads, errors, bytes atomic.Uint64
	busy                 atomic.Int64     // ns
	sizes                [8]atomic.Uint64 // as vfs.Stats.ReadSizes
	times                [8]atomic.Uint64 // as vfs.Stats.ReadTimes
	both                 [8][8]atomic.Uint64
}

func measure(b storage.Backend) *measured { return &measured{Backend: b} }

// ReadAt reads and counts.
func (m *measured) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	begin := time.Now()
	err := m.Backend.ReadAt(ctx, blob, p, off)
	took := time.Since(begin)
	m.reads.Add(1)
	m.busy.Add(int64(took))
	if err != nil {
		m.errors.Add(1)
	} else {
		m.bytes.Add(uint64(len(p)))
	}
	size, late := 0, 0
	for size < len(vfs.ReadSizeBounds) && len(p) >= vfs.ReadSizeBounds[size] {
		size++
	}
	for late < len(vfs.ReadTimeBounds) && took > vfs.ReadTimeBounds[late] {
		late++
	}
	m.sizes[size].Add(1)
	m.times[late].Add(1)
	m.both[size][late].Add(1)
	return err
}

// Close closes the backend, if it can be.
func (m *measured) Close() error {
	if c, ok := m.Backend.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// loadAll reads counters.
func loadAll(c *[8]atomic.Uint64) (n [8]uint64) {
	for i := range c {
		n[i] = c[i].Load()
	}
	return n
}
