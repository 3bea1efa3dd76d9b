package cache

import (
	"context"
	"slices"
	"sync"

	"github.com/sluicefs/sluice/storage"
)

// A prefetch has few ranges under way and none very long, prefetchRange bytes
// at most: enough to fill a link, and little that a user's read, which gets
// its share of the link at once and all of it when they are through, has to
// wait for.
const (
	prefetchRange  = 1 << 20
	prefetchRanges = 3
)

// Prefetch fetches what is missing of the chunks of ext into the cache, in
// their order as far as merging allows, after all that readers want, and
// returns when it is there. The error is the first of several.
func (r *Reader) Prefetch(ctx context.Context, ext []storage.Extent) error {
	return r.background(ctx, chunksOf(ext), byPrefetch, prefetchRange, 0)
}

// PrefetchSoon is Prefetch for what will be read at once, such as what a
// profile names: it does not make way for readers, and so keeps a line busy
// between their reads, but has no more than soonFlight bytes under way, so
// that what is needed first comes first.
func (r *Reader) PrefetchSoon(ctx context.Context, ext []storage.Extent) error {
	return r.background(ctx, chunksOf(ext), bySoon, soonRange, soonFlight)
}

// Of what is fetched soon: the longest range of several chunks, and how much
// is under way at once.
const (
	soonRange  = 512 << 10
	soonFlight = 3 << 19
)

func chunksOf(ext []storage.Extent) []storage.Chunk {
	chunks := make([]storage.Chunk, 0, len(ext))
	for i := range ext {
		if !ext[i].Hole() {
			chunks = append(chunks, ext[i].Chunk)
		}
	}
	return chunks
}

// background fetches chunks that nobody waits for, unless flight is 0 no more
// than so many bytes at once. It enters the gate before it makes flights, so
// that a reader never waits for one that waits itself.
func (r *Reader) background(ctx context.Context, chunks []storage.Chunk, p priority, maxRange, flight int64) error {
	wanted, err := r.missing(chunks)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	room := newRoom(flight)
	for _, sp := range r.planInOrder(wanted, maxRange) {
		sp.paid = sp.cost()
		size := sp.end - sp.off
		err := room.take(ctx, size)
		if p == byPrefetch && err == nil {
			err = r.o.PrefetchRate.Wait(ctx, size)
		}
		if err == nil {
			err = r.c.gate.enter(ctx, p, sp.paid)
		}
		if err != nil {
			once.Do(func() { first = err })
			break
		}
		flights := r.claim(sp.flights)
		if len(flights) == 0 {
			r.c.gate.leave(p, sp.paid)
			room.give(size)
			continue
		}
		sp.flights = flights
		r.launch(sp, p, true)
		wg.Go(func() {
			defer room.give(size)
			for _, f := range flights {
				if err := f.wait(ctx, nil, 0); err != nil {
					once.Do(func() { first = err })
				}
			}
		})
	}
	wg.Wait()
	return first
}

// missing makes flights, not yet under way, for those chunks that are not
// there, each once.
func (r *Reader) missing(chunks []storage.Chunk) (wanted []*flight, err error) {
	seen := make(map[uint64]bool)
	for i := range chunks {
		ch := &chunks[i]
		if err := checkChunk(ch); err != nil {
			return nil, err
		}
		seal := r.c.seals.seal(ch)
		if !seen[seal] && !r.Present(ch) {
			wanted = append(wanted, &flight{s: r.c.store(ch.Blob), ch: *ch, seal: seal})
		}
		seen[seal] = true
	}
	return wanted, nil
}

// room is how many bytes may be under way. One is let in when nothing else
// is, whatever its size. A nil room has no end.
type room struct {
	size int64

	mu   sync.Mutex // leaf
	used int64
	free chan struct{} // has a token when something was given back
}

func newRoom(size int64) *room {
	if size <= 0 {
		return nil
	}
	return &room{size: size, free: make(chan struct{}, 1)}
}

// take waits for n bytes; one goroutine at a time calls it.
func (m *room) take(ctx context.Context, n int64) error {
	for m != nil {
		m.mu.Lock()
		if m.used == 0 || m.used+n <= m.size {
			m.used += n
			m.mu.Unlock()
			break
		}
		m.mu.Unlock()
		select {
		case <-m.free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func (m *room) give(n int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.used -= n
	m.mu.Unlock()
	select {
	case m.free <- struct{}{}:
	default:
	}
}

// planBack is how many ranges back a chunk may still join the one that it
// lies behind or before.
const planBack = 32

// planInOrder merges neighbours, and leaves the ranges in the order in which
// the first of each is wanted.
func (r *Reader) planInOrder(wanted []*flight, maxRange int64) (spans []span) {
	for _, f := range wanted {
		if !r.joinSpan(spans[max(0, len(spans)-planBack):], f, maxRange) {
			off, size, raw := storedRange(&f.ch)
			spans = append(spans, span{s: f.s, off: off, end: off + size, raw: raw, flights: []*flight{f}})
		}
	}
	for i := range spans {
		slices.SortStableFunc(spans[i].flights, byOffset)
	}
	return spans
}

// joinSpan adds f to the one of spans that it touches, if there is one.
func (r *Reader) joinSpan(spans []span, f *flight, maxRange int64) bool {
	off, size, raw := storedRange(&f.ch)
	gap := max(r.o.MergeGap, 0)
	for i := range spans {
		l := &spans[i]
		from, to := min(l.off, off), max(l.end, off+size)
		if l.s != f.s || f.ch.Blob.ID != l.flights[0].ch.Blob.ID || off > l.end+gap || off+size+gap < l.off {
			continue
		}
		if grown := to-from > l.end-l.off; grown && to-from > maxRange {
			continue
		}
		l.off, l.end, l.raw = from, to, l.raw+raw
		l.flights = append(l.flights, f)
		return true
	}
	return false
}

// claim makes flights for those chunks that are still missing and that
// nobody fetches.
func (r *Reader) claim(wanted []*flight) []*flight {
	var mine []*flight
	for _, w := range wanted {
		if r.Present(&w.ch) {
			continue
		}
		f, created := w.s.join(r, &w.ch, w.seal)
		if !created {
			f.leave()
			continue
		}
		mine = append(mine, f)
	}
	return mine
}
