package serve

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// countingReader says what it was asked for.
type countingReader struct {
	present bool
	reads   int
}

func (r *countingReader) ReadExtents(context.Context, []byte, []storage.Extent) error {
	r.reads++
	return nil
}

func (r *countingReader) ReadPresent([]byte, []storage.Extent) (bool, error) { return r.present, nil }

func TestMeterCountsEachChunkOnce(t *testing.T) {
	blob := &storage.Blob{Index: 1, ChunkCount: 100}
	ext := func(index uint32, size uint32, n int64) storage.Extent {
		return storage.Extent{Length: n, Chunk: storage.Chunk{Blob: blob, Index: index, Size: size}}
	}
	r := &countingReader{}
	m := newMeter(r, []*storage.Blob{{Index: 0}, blob})
	all := []storage.Extent{ext(3, 1000, 10), {Length: 5}, ext(64, 500, 10), ext(99, 7, 10)}
	for range 2 {
		if err := m.ReadExtents(t.Context(), make([]byte, 20), all); err != nil {
			t.Fatal(err)
		}
	}
	// The last extent lies behind the 20 bytes that were wanted.
	if got := m.touched.Load(); got != 1500 {
		t.Errorf("touched %d bytes, want 1500", got)
	}
	for index, want := range map[uint32]bool{3: true, 64: true, 99: false, 4: false} {
		if got := m.wasTouched(&storage.Chunk{Blob: blob, Index: index}); got != want {
			t.Errorf("chunk %d touched: %v, want %v", index, got, want)
		}
	}
	// Chunks that the image does not have are no reason to panic.
	wild := []storage.Extent{
		{Length: 9, Chunk: storage.Chunk{Blob: blob, Index: 1 << 31}},
		{Length: 9, Chunk: storage.Chunk{Blob: &storage.Blob{Index: 9}}},
		{Length: 9, Chunk: storage.Chunk{Blob: &storage.Blob{Index: -1}}},
	}
	m.note(wild, 100)
	if m.hits.Load() != 0 || m.misses.Load() != 2 {
		t.Errorf("hits %d, misses %d, want 0 and 2", m.hits.Load(), m.misses.Load())
	}
	r.present = true
	if done, err := m.ReadPresent(make([]byte, 5), all); !done || err != nil || m.hits.Load() != 1 {
		t.Errorf("present: %v, %v, hits %d", done, err, m.hits.Load())
	}
}

func TestRecorderKeepsTheSlowest(t *testing.T) {
	r := &recorder{first: map[fileRange]time.Time{}}
	for i := range 100 {
		r.Read(uint64(i), 0, 1, time.Duration(i)*time.Millisecond, nil)
	}
	got := r.slowest(func(nid uint64) string { return fmt.Sprint(nid) })
	if len(got) != maxSlow || got[0].Path != "99" || got[maxSlow-1].Path != fmt.Sprint(100-maxSlow) {
		t.Errorf("got %d reads from %s to %s, want the %d slowest", len(got), got[0].Path, got[len(got)-1].Path, maxSlow)
	}
	if len(r.reads) != 0 {
		t.Error("reads were recorded though nobody asked")
	}
}

func TestRecorderRecordsInOrderOnce(t *testing.T) {
	r := &recorder{all: true, first: map[fileRange]time.Time{}}
	for _, k := range []fileRange{{5, 0, 10}, {7, 100, 10}, {5, 0, 10}, {5, 10, 10}} {
		r.Read(k.nid, k.off, int(k.n), 0, nil)
	}
	if want := "[{5 0 10} {7 100 10} {5 10 10}]"; fmt.Sprint(r.reads) != want {
		t.Errorf("got %v, want %s", r.reads, want)
	}
	if n := len(r.spans(5)); n != 2 {
		t.Errorf("spans of inode 5: %d, want 2", n)
	}
}

func TestWhyReasons(t *testing.T) {
	for _, c := range []struct {
		w    Why
		want int
	}{{Why{}, 1}, {Why{Chunks: 3}, 1}, {Why{Chunks: 3, Present: 3, Touched: 1}, 2}, {Why{Chunks: 3, Present: 1, Touched: 2}, 2}} {
		if got := c.w.reasons(); len(got) != c.want {
			t.Errorf("%+v: %q, want %d reasons", c.w, got, c.want)
		}
	}
}
