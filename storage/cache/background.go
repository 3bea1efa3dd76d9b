package cache

import (
	"context"
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
	chunks := make([]storage.Chunk, 0, len(ext))
	for i := range ext {
		if !ext[i].Hole() {
			chunks = append(chunks, ext[i].Chunk)
		}
	}
	return r.background(ctx, chunks, byPrefetch, prefetchRange)
}

// background fetches chunks that nobody waits for. It enters the gate before
// it makes flights, so that a reader never waits for one that waits itself.
func (r *Reader) background(ctx context.Context, chunks []storage.Chunk, p priority, maxRange int64) error {
	var wanted []*flight
	seen := make(map[uint64]bool)
	for i := range chunks {
		ch := &chunks[i]
		if err := checkChunk(ch); err != nil {
			return err
		}
		seal := r.c.seals.seal(ch)
		if !seen[seal] && !r.Present(ch) {
			wanted = append(wanted, &flight{s: r.c.store(ch.Blob), ch: *ch, seal: seal})
		}
		seen[seal] = true
	}
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, sp := range r.planInOrder(wanted, maxRange) {
		sp.paid = sp.cost()
		err := ctx.Err()
		if p == byPrefetch {
			err = r.o.PrefetchRate.Wait(ctx, sp.end-sp.off)
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
			continue
		}
		sp.flights = flights
		r.launch(sp, p, true)
		wg.Go(func() {
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

// planBatch is how many stored bytes are merged without regard to the order
// in which they are wanted.
const planBatch = 8 << 20

// planInOrder merges neighbours, but leaves what is wanted later for later.
func (r *Reader) planInOrder(wanted []*flight, maxRange int64) (spans []span) {
	for len(wanted) > 0 {
		k, n := 0, int64(0)
		for k < len(wanted) && n < planBatch {
			n += stored(&wanted[k].ch)
			k++
		}
		spans = append(spans, r.plan(wanted[:k], maxRange)...)
		wanted = wanted[k:]
	}
	return spans
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
