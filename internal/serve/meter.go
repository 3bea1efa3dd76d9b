package serve

import (
	"context"
	"sync/atomic"

	"github.com/sluicefs/sluice/image/imagefs"
	"github.com/sluicefs/sluice/storage"
)

// meter is a storage.Reader that notes which chunks are read: their stored
// bytes, each once, are what a mount would have fetched at the least. It
// costs one bit per chunk of the image.
type meter struct {
	storage.Reader
	present imagefs.PresentReader
	bits    []chunkBits // by Blob.Index

	touched atomic.Int64 // stored bytes
	hits    atomic.Int64 // reads that waited for nothing
	misses  atomic.Int64
}

type chunkBits []atomic.Uint64

// maxMeterChunks bounds the bits of one blob, whose count is the image's
// claim: 2^31 chunks would be 256 MiB of bits.
const maxMeterChunks = 1 << 28

func newMeter(r storage.Reader, blobs []*storage.Blob) *meter {
	m := &meter{Reader: r}
	m.present, _ = r.(imagefs.PresentReader)
	for _, b := range blobs {
		for len(m.bits) <= b.Index && b.Index < 1<<16 {
			m.bits = append(m.bits, nil)
		}
		if b.Index >= 0 && b.Index < len(m.bits) && b.ChunkCount <= maxMeterChunks {
			m.bits[b.Index] = make(chunkBits, (b.ChunkCount+63)/64)
		}
	}
	return m
}

// word returns the word and bit of a chunk, nil if it is not counted.
func (m *meter) word(c *storage.Chunk) (*atomic.Uint64, uint64) {
	if c.Blob == nil || c.Blob.Index < 0 || c.Blob.Index >= len(m.bits) {
		return nil, 0
	}
	bits := m.bits[c.Blob.Index]
	if int(c.Index/64) >= len(bits) {
		return nil, 0
	}
	return &bits[c.Index/64], 1 << (c.Index % 64)
}

// wasTouched reports whether c has been read through this mount.
func (m *meter) wasTouched(c *storage.Chunk) bool {
	w, bit := m.word(c)
	return w != nil && w.Load()&bit != 0
}

// note marks the chunks of the first n bytes of ext.
func (m *meter) note(ext []storage.Extent, n int64) {
	for i := range ext {
		if n <= 0 {
			return
		}
		n -= ext[i].Length
		w, bit := m.word(&ext[i].Chunk)
		if w == nil || w.Load()&bit != 0 {
			continue
		}
		if w.Or(bit)&bit == 0 {
			m.touched.Add(int64(ext[i].Chunk.Size))
		}
	}
}

// ReadPresent is that of imagefs.PresentReader.
func (m *meter) ReadPresent(p []byte, ext []storage.Extent) (bool, error) {
	if m.present == nil {
		return false, nil
	}
	m.note(ext, int64(len(p)))
	done, err := m.present.ReadPresent(p, ext)
	if done {
		m.hits.Add(1)
	}
	return done, err
}

// ReadExtents is that of storage.Reader.
func (m *meter) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	m.note(ext, int64(len(p)))
	m.misses.Add(1)
	return m.Reader.ReadExtents(ctx, p, ext)
}
