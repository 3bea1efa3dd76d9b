package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// pending is a part of a read that waits for a flight.
type pending struct {
	f   *flight
	p   []byte
	off uint32
}

// readMissing fills p with the bytes of ext, some of whose chunks are not in
// the cache: it starts fetches for all of those that nobody is fetching yet,
// and then waits for each in turn.
func (r *Reader) readMissing(ctx context.Context, p []byte, ext []storage.Extent) (err error) {
	var waits []pending
	var mine []*flight
	for len(p) > 0 && err == nil {
		if len(ext) == 0 {
			err = errShort
			break
		}
		n, k, e := r.readRun(p, ext)
		if err = e; err == nil && k == 0 {
			var w pending
			var created bool
			n, _ = wanted(&ext[0], len(p))
			if w, created, err = r.await(p[:n], &ext[0]); err == nil {
				waits = append(waits, w)
				if created {
					mine = append(mine, w.f)
				}
			}
			k = 1
		}
		p, ext = p[n:], ext[k:]
	}
	r.start(mine, byUser)
	for i := range waits {
		if err != nil {
			waits[i].f.leave()
		} else {
			err = r.waitFor(ctx, &waits[i])
		}
	}
	if len(mine) > 0 && err == nil {
		r.ahead.missed(r, mine)
		r.expect(ext) // not before: what is read now goes first
		r.expectBehind(mine)
	}
	return err
}

// await joins the flight of the chunk of e.
func (r *Reader) await(p []byte, e *storage.Extent) (w pending, created bool, err error) {
	ch := &e.Chunk
	if err := checkChunk(ch); err != nil {
		return w, false, err
	}
	s := r.c.store(ch.Blob)
	f, created := s.join(r, ch, r.c.seals.seal(ch))
	landed := !created && f.hurry()
	count(&r.n, &r.c.n, func(n *counters) {
		if landed {
			n.hits.Add(1)
			return
		}
		n.misses.Add(1)
		if !created {
			n.joined.Add(1)
		}
		n.touched.Add(uint64(stored(ch)))
	})
	if created {
		r.expected.wanted(stored(ch), false)
		return pending{f, p, e.ChunkOffset}, created, nil
	}
	if sl := s.slots.find(ch.Index); sl != nil {
		r.cameTo(s, sl, ch)
	}
	return pending{f, p, e.ChunkOffset}, created, nil
}

// count counts in two places.
func count(a, b *counters, f func(n *counters)) {
	f(a)
	f(b)
}

// stored is how many stored bytes a chunk takes of its own.
func stored(ch *storage.Chunk) int64 {
	if ch.Flags&storage.InGroup != 0 && ch.Group != nil && ch.Size == 0 {
		return int64(ch.UncompressedSize)
	}
	return int64(ch.Size)
}

// waitFor waits for one part. A flight that ended for reasons of another
// reader is begun again.
func (r *Reader) waitFor(ctx context.Context, w *pending) error {
	for tries := 0; ; tries++ {
		err := w.f.wait(ctx, w.p, w.off)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if r.ctx.Err() != nil {
			return ErrClosed
		}
		if tries >= 3 || w.f.r == r && !errors.Is(err, errAbandoned) {
			return err
		}
		f, created := w.f.s.join(r, &w.f.ch, w.f.seal)
		w.f = f
		if created {
			r.start([]*flight{f}, byUser)
		}
	}
}

// maxStored is the largest stored size of a chunk or group: what does not
// compress may grow a little.
const maxStored = maxChunkSize + maxChunkSize/8

// checkChunk refuses what no sound image says of a chunk.
func checkChunk(ch *storage.Chunk) error {
	b := ch.Blob
	bad := func(format string, args ...any) error {
		return &ChunkError{Op: "check", Blob: b.ID, Chunk: ch.Index, Err: fmt.Errorf(format, args...)}
	}
	off, size, raw := storedRange(ch)
	switch {
	case ch.Flags&storage.InGroup != 0 && ch.Group == nil:
		return bad("it is in no group")
	case ch.UncompressedSize == 0 || ch.UncompressedSize > maxChunkSize:
		return bad("uncompressed size %d", ch.UncompressedSize)
	case raw > 2*maxChunkSize:
		return bad("group of %d bytes", raw)
	case size <= 0 || size > maxStored:
		return bad("stored size %d", size)
	case off < 0 || off > maxDataSize:
		return bad("stored offset %d", off)
	case b.Size > 0 && off+size > b.Size:
		return bad("stored range ends at %d of %d bytes", off+size, b.Size)
	}
	return nil
}

// storedRange is what has to be fetched for a chunk; raw is its size when
// decoded, for a group.
func storedRange(ch *storage.Chunk) (off, size, raw int64) {
	if ch.Flags&storage.InGroup != 0 && ch.Group != nil {
		return ch.Group.Offset, int64(ch.Group.Size), int64(ch.Group.UncompressedSize)
	}
	return ch.Offset, int64(ch.Size), int64(ch.UncompressedSize)
}

// span is a range of a blob with the flights that it brings, by offset.
type span struct {
	s        *store
	off, end int64
	raw      int64 // bytes when decoded
	paid     int64 // what the gate let in for, if the caller has been there
	flights  []*flight
	job      *job // that runs it, nil if nobody can hurry it
}

// plan merges flights into ranges.
func (r *Reader) plan(flights []*flight, maxRange int64) []span {
	slices.SortStableFunc(flights, byOffset)
	var spans []span
	for _, f := range flights {
		off, size, raw := storedRange(&f.ch)
		if n := len(spans); n > 0 {
			l := &spans[n-1]
			end := max(l.end, off+size)
			if l.s == f.s && off <= l.end+max(r.o.MergeGap, 0) && (end == l.end || end-l.off <= maxRange) && f.ch.Blob.ID == l.flights[0].ch.Blob.ID {
				l.end, l.raw = end, l.raw+raw
				l.flights = append(l.flights, f)
				continue
			}
		}
		spans = append(spans, span{s: f.s, off: off, end: off + size, raw: raw, flights: []*flight{f}})
	}
	return spans
}

// byOffset orders flights by where they lie at the backend.
func byOffset(a, b *flight) int {
	if a.s != b.s {
		return cmp.Compare(a.s.name, b.s.name)
	}
	ao, _, _ := storedRange(&a.ch)
	bo, _, _ := storedRange(&b.ch)
	return cmp.Compare(ao, bo)
}

// start fetches the flights, which are new and the caller's to bring.
func (r *Reader) start(flights []*flight, p priority) {
	if len(flights) == 0 {
		return
	}
	for _, sp := range r.plan(flights, r.o.MaxRange) {
		r.launch(sp, p, false)
	}
}

// launch runs the job of one range. With entered set the caller has been let
// in at the gate for it.
func (r *Reader) launch(sp span, p priority, entered bool) {
	ctx, cancel := context.WithCancel(r.ctx)
	j := newJob(cancel, len(sp.flights))
	sp.job = j
	for _, f := range sp.flights {
		f.s.mu.Lock()
		f.job = j
		if f.urgent {
			j.hurry()
		}
		if f.waiters == 0 && j.live.Add(-1) == 0 {
			cancel()
		}
		f.s.mu.Unlock()
	}
	ok := r.spawn(func() {
		defer cancel()
		r.run(ctx, &sp, p, entered)
	})
	if !ok {
		cancel()
		if entered {
			r.c.gate.leave(p, sp.paid)
		}
		for _, f := range sp.flights {
			f.land(nil, ErrClosed)
			f.retire()
		}
	}
}

// cost is the memory that a job takes.
func (sp *span) cost() int64 { return sp.end - sp.off + sp.raw }

// run is a job: it brings the flights of one range.
func (r *Reader) run(ctx context.Context, sp *span, p priority, entered bool) {
	var err error
	if !entered {
		sp.paid = sp.cost()
		err = r.c.gate.enter(ctx, p, sp.paid)
	}
	if err == nil {
		r.bring(ctx, sp, p)
		r.c.gate.leave(p, sp.paid)
	}
	for _, f := range sp.flights {
		f.land(nil, errAbandoned) // if it has not landed
		f.retire()
	}
}

// bring fetches the flights that no other process is fetching, then those
// that one was.
func (r *Reader) bring(ctx context.Context, sp *span, p priority) {
	var mine, others []*flight
	for _, f := range sp.flights {
		switch ok := f.s.lockChunk(f.ch.Index); {
		case !ok:
			others = append(others, f)
		case f.s.data != nil && r.landPresent(f):
			f.s.unlockChunk(f.ch.Index) // another process was quicker
		default:
			mine = append(mine, f)
		}
	}
	free := r.siblings(mine)
	for _, part := range r.plan(append(mine, free...), sp.end-sp.off) {
		part.job = sp.job
		r.fetch(ctx, &part, p)
		for _, f := range part.flights {
			f.s.unlockChunk(f.ch.Index)
		}
	}
	for _, f := range free {
		f.land(nil, errAbandoned)
		f.retire()
		f.leave()
	}
	for _, f := range others {
		r.bringOther(ctx, f, p)
	}
}

// siblings makes flights for the other chunks of the groups that are about to
// be fetched: they come with the same bytes.
func (r *Reader) siblings(flights []*flight) (free []*flight) {
	var seen map[*storage.Group]bool
	for _, f := range flights {
		b, g := f.ch.Blob, f.ch.Group
		if f.ch.Flags&storage.InGroup == 0 || b.Neighbour == nil || f.s.data == nil || seen[g] {
			continue
		}
		if seen == nil {
			seen = make(map[*storage.Group]bool)
		}
		seen[g] = true
		for _, step := range []int64{-1, 1} {
			for i := int64(f.ch.Index) + step; i >= 0 && i < maxChunks; i += step {
				ch, ok := b.Neighbour(uint32(i))
				if !ok || !sameGroup(&ch, &f.ch) || checkChunk(&ch) != nil {
					break
				}
				free = append(free, r.claimLocked(f.s, &ch)...)
			}
		}
	}
	return free
}

func sameGroup(a, b *storage.Chunk) bool {
	return a.Blob == b.Blob && a.Flags&b.Flags&storage.InGroup != 0 && a.Group != nil && a.Group.Offset == b.Group.Offset && a.Group.Size == b.Group.Size &&
		a.Group.Bits == b.Group.Bits && a.Group.UncompressedSize == b.Group.UncompressedSize
}

// claimLocked makes a flight for a chunk that is missing and that no process
// fetches, and takes its lock.
func (r *Reader) claimLocked(s *store, ch *storage.Chunk) []*flight {
	if !keepable(ch) {
		return nil
	}
	mine := r.claim([]*flight{{s: s, ch: *ch, seal: r.c.seals.seal(ch)}})
	if len(mine) > 0 && !s.lockChunk(ch.Index) {
		mine[0].land(nil, errAbandoned)
		mine[0].retire()
		mine[0].leave()
		return nil
	}
	return mine
}

// lockChunk takes the lock of a chunk among processes.
func (s *store) lockChunk(i uint32) bool {
	if s.data == nil {
		return true
	}
	ok, err := s.idx.TryLockByte(indexRecords + int64(i)*recordSize)
	return ok || err != nil // without locks each process fetches for itself
}

func (s *store) unlockChunk(i uint32) {
	if s.data != nil {
		s.idx.UnlockByte(indexRecords + int64(i)*recordSize)
	}
}

// landPresent lands a flight whose bytes are on disk by now.
func (r *Reader) landPresent(f *flight) bool {
	at, ok := r.look(f.s, &f.ch, 0, false)
	if !ok {
		return false
	}
	b := r.c.pool.get(int(f.ch.UncompressedSize))
	if n, _ := at.f.ReadAt(b, at.at); n != len(b) {
		r.c.pool.put(b)
		return false
	}
	f.land(b, nil)
	return true
}

// Pauses between looks whether another process is done with a chunk.
const (
	otherPause    = 2 * time.Millisecond
	otherPauseMax = 50 * time.Millisecond
)

// bringOther waits for another process that fetches the chunk, and fetches
// it when that one did not get it.
func (r *Reader) bringOther(ctx context.Context, f *flight, p priority) {
	for pause := otherPause; !f.s.lockChunk(f.ch.Index); pause = min(2*pause, otherPauseMax) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	defer f.s.unlockChunk(f.ch.Index)
	if r.landPresent(f) {
		return
	}
	off, size, raw := storedRange(&f.ch)
	r.fetch(ctx, &span{s: f.s, off: off, end: off + size, raw: raw, flights: []*flight{f}}, p)
}

// fetch asks the backend for the range, and lands and keeps its chunks.
func (r *Reader) fetch(ctx context.Context, sp *span, p priority) {
	b := r.c.pool.get(int(sp.end - sp.off))
	defer r.c.pool.put(b)
	first := &sp.flights[0].ch
	if err := r.askInPieces(ctx, first.Blob.ID, b, sp, p); err != nil {
		for _, f := range sp.flights {
			f.land(nil, r.fetchError(ctx, f, err))
		}
		return
	}
	groups := groupBuffer{pool: r.c.pool}
	defer groups.release()
	for _, f := range sp.flights {
		off, size, _ := storedRange(&f.ch)
		data, err := r.decode(&groups, f, b[off-sp.off:off-sp.off+size])
		if err != nil {
			data, err = r.again(ctx, f, p, err)
		}
		f.land(data, err)
	}
	for _, f := range sp.flights {
		if f.err == nil && !r.keep(f) && (p != byPrefetch || f.wanted()) {
			r.c.spares.add(f)
		}
	}
}

// pieceSize is how much is asked for at once of what no reader waits for: a
// reader who comes in between waits for no more than that on the line.
const pieceSize = 256 << 10

// askInPieces is ask for a span. What nobody waits for comes in pieces, none
// of which begins while users' fetches are under way; as soon as a reader
// waits for it the rest comes in one go.
func (r *Reader) askInPieces(ctx context.Context, blob string, b []byte, sp *span, p priority) error {
	off := sp.off
	for p == byPrefetch && sp.job != nil && len(b) > pieceSize {
		if off > sp.off {
			r.c.gate.yield(ctx, sp.job.rush)
		}
		select {
		case <-sp.job.rush:
			return r.ask(ctx, blob, b, off, p)
		default:
		}
		if err := r.ask(ctx, blob, b[:pieceSize], off, p); err != nil {
			return err
		}
		b, off = b[pieceSize:], off+pieceSize
	}
	return r.ask(ctx, blob, b, off, p)
}

// ask reads a range from the backend and counts it.
func (r *Reader) ask(ctx context.Context, blob string, b []byte, off int64, p priority) error {
	count(&r.n, &r.c.n, func(n *counters) {
		n.requests.Add(1)
		n.fetched.Add(uint64(len(b)))
		switch p {
		case byAhead:
			n.ahead.Add(uint64(len(b)))
		case byPrefetch, bySoon:
			n.prefetch.Add(uint64(len(b)))
		}
	})
	if err := r.o.Rate.Wait(ctx, int64(len(b))); err != nil {
		return err
	}
	if r.o.Trace == nil {
		return r.b.ReadAt(ctx, blob, b, off)
	}
	start := time.Now()
	err := r.b.ReadAt(ctx, blob, b, off)
	r.o.Trace(Fetch{Blob: blob, Offset: off, Size: int64(len(b)), Cause: p.String(), Start: start, Duration: time.Since(start), Err: err})
	return err
}

// fetchError is what a flight ends with when its range could not be had. A
// job that was cancelled says nothing of the chunk.
func (r *Reader) fetchError(ctx context.Context, f *flight, err error) error {
	if ctx.Err() != nil {
		return errAbandoned
	}
	return &ChunkError{Op: "fetch", Blob: f.ch.Blob.ID, Chunk: f.ch.Index, Err: err}
}

// decode returns the verified bytes of the flight's chunk in a slice of the
// pool.
func (r *Reader) decode(g *groupBuffer, f *flight, b []byte) (data []byte, err error) {
	data = r.c.pool.get(int(f.ch.UncompressedSize))
	op := "decode"
	defer func() {
		if v := recover(); v != nil { // a decompressor met bytes that it did not expect
			err = fmt.Errorf("panic: %v", v)
		}
		if err != nil {
			r.c.pool.put(data)
			data, err = nil, &ChunkError{Op: op, Blob: f.ch.Blob.ID, Chunk: f.ch.Index, Err: err}
		}
	}()
	if f.ch.Flags&storage.InGroup != 0 {
		err = g.decode(data, b, &f.ch)
	} else {
		err = codec.Decode(data, b, &f.ch)
	}
	if err == nil {
		op = "verify"
		err = codec.Verify(data, &f.ch)
	}
	return data, err
}

// again fetches a chunk that came with wrong bytes once more, from its
// origin.
func (r *Reader) again(ctx context.Context, f *flight, p priority, first error) ([]byte, error) {
	count(&r.n, &r.c.n, func(n *counters) { n.mismatches.Add(1) })
	r.c.log.Warn("chunk came with wrong bytes, fetching it again from the origin", "blob", f.ch.Blob.ID, "chunk", f.ch.Index, "error", first)
	off, size, _ := storedRange(&f.ch)
	b := r.c.pool.get(int(size))
	defer r.c.pool.put(b)
	if err := r.ask(storage.FromOrigin(ctx), f.ch.Blob.ID, b, off, p); err != nil {
		return nil, r.fetchError(ctx, f, err)
	}
	g := groupBuffer{pool: r.c.pool}
	defer g.release()
	data, err := r.decode(&g, f, b)
	if err != nil {
		r.c.log.Error("chunk is wrong at the origin too", "blob", f.ch.Blob.ID, "chunk", f.ch.Index, "error", err)
	}
	return data, err
}

// groupBuffer has the decoded bytes of the last group: chunks of one group
// come one after another.
type groupBuffer struct {
	pool *buffers
	of   *storage.Chunk // one that is in the group
	data []byte
}

func (g *groupBuffer) decode(dst, b []byte, ch *storage.Chunk) error {
	if g.of == nil || !sameGroup(g.of, ch) {
		g.release()
		g.data = g.pool.get(int(ch.Group.UncompressedSize))
		if err := codec.DecodeGroup(g.data, b, ch); err != nil {
			return err
		}
		g.of = ch
	}
	return codec.FromGroup(dst, g.data, ch)
}

func (g *groupBuffer) release() {
	if g.data != nil {
		g.pool.put(g.data)
	}
	g.data, g.of = nil, nil
}
