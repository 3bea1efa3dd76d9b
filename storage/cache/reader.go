package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
)

// ReaderOptions of a Reader. The zero value is the default.
type ReaderOptions struct {
	Window   int64 // bytes that a reader in sequence is read ahead at most; default 8 MiB, negative: never
	MaxRange int64 // bytes of a merged range at most; default 1 MiB
	MergeGap int64 // bytes nobody wants that may lie between two chunks of one range; default 4 KiB, negative: none

	Rate         *backend.Rate // of all that is fetched; may be shared by readers, nil is no limit
	PrefetchRate *backend.Rate // of what is prefetched, in addition

	// Trace, if not nil, is told of each range that was asked for when it is
	// there or has failed. It is called concurrently and must be quick.
	Trace func(Fetch)
}

// Fetch is one range that was asked of a backend.
type Fetch struct {
	Blob     string
	Offset   int64
	Size     int64
	Cause    string // "read", "soon", "ahead", "guess" or "prefetch"
	Start    time.Time
	Duration time.Duration
	Err      error
}

// Reader is the [storage.Reader] of one image: a cache before a backend. Its
// methods are safe for concurrent use.
type Reader struct {
	c     *Cache
	b     storage.Backend
	o     ReaderOptions
	n     counters
	ahead ahead

	expected expected

	ctx  context.Context // ends at Close; of what goes on without a caller
	stop context.CancelFunc

	mu     sync.Mutex // leaf
	closed bool
	wg     sync.WaitGroup
}

// Reader returns a reader of blobs that are at b. The caller closes it before
// the cache, and b after it.
func (c *Cache) Reader(b storage.Backend, o ReaderOptions) *Reader {
	if o.Window == 0 {
		o.Window = 8 << 20
	}
	if o.MaxRange <= 0 {
		o.MaxRange = 1 << 20
	}
	if o.MergeGap == 0 {
		o.MergeGap = 4 << 10
	}
	r := &Reader{c: c, b: b, o: o}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Close ends what the reader has under way and waits for it. Reads that wait
// for a chunk get ErrClosed.
func (r *Reader) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	r.c.spares.drop(r)
	return nil
}

// spawn runs f in a goroutine that Close waits for, unless the reader is
// closed.
func (r *Reader) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// Stats returns the reader's counts.
func (r *Reader) Stats() Stats { return r.n.stats() }

// place is where bytes of a chunk lie in the cache.
type place struct {
	f  file
	at int64
}

// read reads from the place of e's first wanted byte on. Of the chunk around
// it more may be brought into memory.
func (l place) read(p []byte, e *storage.Extent) (int, error) {
	a, ok := l.f.(aroundReader)
	if !ok {
		return l.f.ReadAt(p, l.at)
	}
	lo := l.at - int64(e.ChunkOffset)
	return a.ReadAround(p, l.at, lo, lo+int64(e.Chunk.UncompressedSize))
}

// present returns where the verified bytes of ch are, from its byte off on,
// for a reader that comes to it.
func (r *Reader) present(s *store, ch *storage.Chunk, off uint32) (place, bool) {
	return r.look(s, ch, off, true)
}

// look is present; without use it is not a reader who asks.
func (r *Reader) look(s *store, ch *storage.Chunk, off uint32, use bool) (place, bool) {
	if s.data == nil || ch.Index >= maxChunks {
		return place{}, false
	}
	seal := r.c.seals.seal(ch)
	sl := s.slots.find(ch.Index)
	if sl == nil || sl.seal.Load() != seal {
		if !keepable(ch) {
			return place{}, false
		}
		if !s.find(ch, seal) {
			return r.elsewhere(s, ch, seal, off, use)
		}
		sl = s.slots.at(ch.Index)
	}
	if now := r.c.minute.Load(); use && sl.access.Load() != now {
		sl.access.Store(now)
	}
	flags := sl.flags.Load()
	if flags == 0 {
		return place{s.data, ch.UncompressedOffset + int64(off)}, true
	}
	if use && flags&(slotMark|slotExpected) != 0 {
		r.cameTo(s, sl, ch)
	}
	f, at, err := s.place(ch.Index, ch.UncompressedOffset, flags&slotExtra != 0)
	return place{f, at + int64(off)}, err == nil
}

// cameTo notes that a reader came to a chunk that was brought before anyone
// wanted it.
func (r *Reader) cameTo(s *store, sl *slot, ch *storage.Chunk) {
	if sl.unmark(slotMark) {
		r.ahead.reached(r, s, ch)
	}
	if sl.unmark(slotExpected) {
		r.ahead.advance(r, s, ch, stored(ch), true)
		if r.expected.wanted(stored(ch), true) {
			r.pursue()
		}
	}
}

// elsewhere is look for a chunk that another blob may have.
func (r *Reader) elsewhere(s *store, ch *storage.Chunk, seal uint64, off uint32, use bool) (place, bool) {
	fo, ok := s.findForeign(ch, seal)
	if !ok {
		return place{}, false
	}
	return r.look(fo.s, &fo.ch, off, use)
}

// ReadExtents fills p with the bytes of ext; see [storage.Reader]. A read
// that meets nothing missing does not allocate. When ctx ends first it
// returns ctx's error; what it waited for goes on if others wait as well.
func (r *Reader) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	r.n.read.Add(uint64(len(p)))
	r.c.n.read.Add(uint64(len(p)))
	for len(p) > 0 {
		if len(ext) == 0 {
			return r.failed(errShort)
		}
		n, k, err := r.readRun(p, ext)
		if err != nil {
			return r.failed(err)
		}
		if k == 0 {
			return r.failed(r.readMissing(ctx, p, ext))
		}
		p, ext = p[n:], ext[k:]
	}
	return nil
}

// ReadPresent fills p as ReadExtents does if all of it is there, without ever
// waiting for a backend. It reports false when something is missing; p then
// holds anything.
func (r *Reader) ReadPresent(p []byte, ext []storage.Extent) (done bool, err error) {
	size := uint64(len(p))
	for len(p) > 0 {
		if len(ext) == 0 {
			return false, r.failed(errShort)
		}
		n, k, err := r.readRun(p, ext)
		if err != nil || k == 0 {
			return false, r.failed(err)
		}
		p, ext = p[n:], ext[k:]
	}
	r.n.read.Add(size)
	r.c.n.read.Add(size)
	return true, nil
}

func (r *Reader) failed(err error) error {
	if err != nil {
		r.n.errors.Add(1)
		r.c.n.errors.Add(1)
	}
	return err
}

// wanted is how many bytes of e a read with n bytes of room wants.
func wanted(e *storage.Extent, n int) (int, error) {
	want := min(e.Length, int64(n))
	if want <= 0 || !e.Hole() && int64(e.ChunkOffset)+want > int64(e.Chunk.UncompressedSize) {
		return 0, badExtent(e)
	}
	return int(want), nil
}

// readRun fills the beginning of p with the bytes of the extents at the
// beginning of ext that one pread gets, and returns how many bytes and
// extents that were: 0 if the first extent's chunk is missing.
func (r *Reader) readRun(p []byte, ext []storage.Extent) (n, k int, err error) {
	n, err = wanted(&ext[0], len(p))
	if err != nil {
		return 0, 0, err
	}
	if ext[0].Hole() {
		clear(p[:n])
		return n, 1, nil
	}
	s := r.c.store(ext[0].Chunk.Blob)
	run, ok := r.present(s, &ext[0].Chunk, ext[0].ChunkOffset)
	if !ok {
		return 0, 0, nil
	}
	for k = 1; k < len(ext) && n < len(p) && !ext[k].Hole(); k++ {
		e := &ext[k]
		want, err := wanted(e, len(p)-n)
		if err != nil {
			return 0, 0, err
		}
		next, ok := r.present(r.c.store(e.Chunk.Blob), &e.Chunk, e.ChunkOffset)
		if !ok || next.f != run.f || next.at != run.at+int64(n) {
			break
		}
		n += want
	}
	if got, _ := run.read(p[:n], &ext[0]); got != n {
		// The file became shorter behind our back, or the disk is bad.
		s.distrust()
		r.drop(ext[:k])
		return 0, 0, nil
	}
	r.n.hits.Add(uint64(k))
	r.c.n.hits.Add(uint64(k))
	return n, k, nil
}

// drop forgets chunks that the index has and the disk does not give.
func (r *Reader) drop(ext []storage.Extent) {
	for i := range ext {
		s := r.c.store(ext[i].Chunk.Blob)
		r.c.n.damaged.Add(1)
		if err := s.withdraw(ext[i].Chunk.Index); err != nil {
			r.c.log.Warn("cache: index", "blob", s.name, "error", err)
		}
	}
}

// badExtent is the error of an extent that no sound image has.
func badExtent(e *storage.Extent) error {
	err := fmt.Errorf("extent of %d bytes at %d of %d", e.Length, e.ChunkOffset, e.Chunk.UncompressedSize)
	if e.Hole() {
		return err
	}
	return &ChunkError{Op: "check", Blob: e.Chunk.Blob.ID, Chunk: e.Chunk.Index, Err: err}
}

var errShort = errors.New("extents are shorter than the read")

// Present reports whether a read of ch needs no fetch now.
func (r *Reader) Present(ch *storage.Chunk) bool {
	_, ok := r.look(r.c.store(ch.Blob), ch, 0, false)
	return ok
}

// File returns the file in which the bytes of all extents lie one after
// another from off on, for the kernel to read from by itself. It reports
// false unless every byte is there and verified. The file is the cache's: it
// is only read, and not after the reader was closed. What it holds is not
// evicted until then.
func (r *Reader) File(ext []storage.Extent) (f *os.File, off int64, ok bool) {
	var first place
	n := int64(0)
	for i := range ext {
		e := &ext[i]
		if e.Hole() {
			return nil, 0, false
		}
		at, ok := r.present(r.c.store(e.Chunk.Blob), &e.Chunk, e.ChunkOffset)
		if !ok {
			return nil, 0, false
		}
		if i == 0 {
			first = at
		} else if at.f != first.f || at.at != first.at+n {
			return nil, 0, false
		}
		n += e.Length
	}
	o, ok := first.f.(osBacked)
	if !ok {
		return nil, 0, false
	}
	return o.osFile(), first.at, true
}

// osBacked is a file that the kernel knows.
type osBacked interface{ osFile() *os.File }
