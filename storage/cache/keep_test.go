package cache

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// TestUnkeptIsSaidOnce: a full disk fails every chunk, and is one line.
func TestUnkeptIsSaidOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var u unkept
	for range 100 {
		u.add(log, "blob", errors.New("no space"))
	}
	u.logged = u.logged.Add(-unkeptEvery)
	u.add(log, "blob", errors.New("no space"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "chunks=1 ") || !strings.Contains(lines[1], "chunks=100 ") {
		t.Errorf("101 chunks that could not be kept: got %q", lines)
	}
}

// TestSparesAreBounded: what is read without a disk stays in memory up to a
// bound, the last of it longest, and none of it after the reader is closed.
func TestSparesAreBounded(t *testing.T) {
	b := newTestBlob(1, 40, 1_000_000, storage.None, true)
	m := backendOf(b)
	c, r := openTest(t, "", Options{SyncEvery: time.Millisecond}, m, ReaderOptions{Window: -1})
	ext, want := b.file(0, 40)
	read(t, r, ext, want)
	r.settle()
	c.spares.mu.Lock()
	held, n := c.spares.bytes, len(c.spares.flights)
	c.spares.mu.Unlock()
	if held > maxSpares || held < maxSpares/2 || n == 0 {
		t.Errorf("spares of %d chunks take %d bytes, want %d at most and half of that", n, held, maxSpares)
	}
	if len(c.store(b.blob).flights) != n {
		t.Errorf("flights listed: got %d, want the %d spares", len(c.store(b.blob).flights), n)
	}
	last, data := b.file(39, 40)
	read(t, r, last, data)
	r.settle()
	before := r.Stats().Requests
	read(t, r, last, data)
	if got := r.Stats().Requests; got != before {
		t.Errorf("the chunk read last was asked for %d times more", got-before)
	}
	r.Close()
	if len(c.spares.flights) != 0 || c.spares.bytes != 0 || len(c.store(b.blob).flights) != 0 {
		t.Errorf("a closed reader leaves %d spares of %d bytes", len(c.spares.flights), c.spares.bytes)
	}
}

// TestPiecesOfUnkeptChunksAreFetchedOnce: who reads without a disk, in pieces
// smaller than chunks, as the kernel does, fetches no chunk twice.
func TestPiecesOfUnkeptChunksAreFetchedOnce(t *testing.T) {
	b := newTestBlob(1, 40, 1_000_000, storage.None, true)
	m := backendOf(b)
	_, r := openTest(t, "", Options{}, m, ReaderOptions{})
	const piece = 64 << 10
	for i := range b.chunks {
		ext, want := b.file(i, i+1)
		for off := 0; off < len(want); off += piece {
			e := ext[0]
			e.FileOffset, e.ChunkOffset, e.Length = int64(off), uint32(off), int64(len(want)-off)
			read(t, r, []storage.Extent{e}, want[off:min(off+piece, len(want))])
		}
	}
	r.settle()
	if _, n := m.counts(); n > int64(len(b.stored))*11/10 {
		t.Errorf("fetched %d bytes of a blob of %d", n, len(b.stored))
	}
}
