package cache

import (
	"slices"
	"sync"

	"github.com/sluicefs/sluice/storage"
)

// Read-ahead finds readers in sequence by the chunks that they miss: a run
// is chunks whose indexes in a blob follow one another, which is the order
// of files in an image and of bytes in a file. Once a run has read runMin, and
// more than one chunk, it is read ahead in batches of 1/runShare of what it has
// read; when a reader comes to the first chunk of a batch the next one is
// fetched. So at most two batches are fetched in vain when the reader stops, a
// quarter of what it wanted, and a reader that jumps about causes none.
const (
	runMin   = 512 << 10 // stored bytes
	runShare = 8
	runGap   = 4         // chunks that a run may skip, if they are no more than
	runSkip  = 256 << 10 // stored bytes
	maxRuns  = 16        // runs known at once; the one used least recently goes
)

// ahead is the read-ahead of one Reader.
type ahead struct {
	mu   sync.Mutex // leaf
	runs []*run     // the one used last comes last
}

// run is one reader in sequence. Its fields are guarded by ahead.mu.
type run struct {
	s     *store
	next  uint32 // index after the last chunk that is known to be read
	end   int64  // stored offset behind it
	until uint32 // index after the last chunk that was looked at for reading ahead
	bytes int64  // stored bytes read
	seen  int    // chunks that the reader came to
	last  int64  // bytes of the batch before the one asked for last
	batch int64  // bytes of the batch asked for last
}

// missed notes chunks that a reader had to fetch.
func (a *ahead) missed(r *Reader, flights []*flight) {
	slices.SortFunc(flights, func(x, y *flight) int { return int(int64(x.ch.Index) - int64(y.ch.Index)) })
	for i, f := range flights {
		a.advance(r, f.s, &f.ch, stored(&f.ch), i == len(flights)-1)
	}
}

// reached notes that a reader came to the first chunk of a batch.
func (a *ahead) reached(r *Reader, s *store, ch *storage.Chunk) { a.advance(r, s, ch, 0, true) }

// advance brings the run that ch belongs to forward by n bytes, and asks for
// the next batch if grow is set.
func (a *ahead) advance(r *Reader, s *store, ch *storage.Chunk, n int64, grow bool) {
	if ch.Blob.Neighbour == nil || r.o.Window < 0 {
		return
	}
	a.mu.Lock()
	u := a.find(s, ch)
	if n == 0 {
		n, u.last, u.batch = u.last, u.batch, 0
	}
	u.bytes += n
	if ch.Index >= u.next {
		off, size, _ := storedRange(ch)
		u.next, u.end = ch.Index+1, off+size
		u.seen++
	}
	if u.next > u.until {
		u.batch = 0 // the reader has overtaken the batch
	}
	from := max(u.next, u.until)
	want := int64(0)
	if grow && u.bytes >= runMin && u.seen > 1 && u.batch == 0 {
		want = min(u.bytes/runShare, r.o.Window)
		u.batch, u.until = want, from+1
	}
	a.mu.Unlock()
	if want > 0 {
		blob := ch.Blob // ch is the caller's, who may use it again
		r.spawn(func() { a.read(r, u, blob, from, want) })
	}
}

// find returns the run that ch goes on with, or a new one; mu is held.
func (a *ahead) find(s *store, ch *storage.Chunk) *run {
	i := ch.Index
	off, _, _ := storedRange(ch)
	for k := len(a.runs) - 1; k >= 0; k-- {
		u := a.runs[k]
		if u.s == s && i+1 >= u.next && (i < max(u.next+1, u.until) || i <= u.next+runGap && off <= u.end+runSkip) {
			a.runs = append(slices.Delete(a.runs, k, k+1), u)
			return u
		}
	}
	u := &run{s: s, next: i}
	if len(a.runs) == maxRuns {
		a.runs = slices.Delete(a.runs, 0, 1)
	}
	a.runs = append(a.runs, u)
	return u
}

// read fetches what is missing of a batch of want bytes from chunk index from
// on. Where all of it is there the reader has enough before it, and its next
// miss asks again.
func (a *ahead) read(r *Reader, u *run, b *storage.Blob, from uint32, want int64) {
	var batch []storage.Chunk
	i := from
	for seen := int64(0); seen < want; i++ {
		ch, ok := b.Neighbour(i)
		if !ok || ch.Blob != b || checkChunk(&ch) != nil {
			break
		}
		seen += stored(&ch)
		if !r.Present(&ch) {
			batch = append(batch, ch)
		}
	}
	a.mu.Lock()
	u.until = max(u.until, i)
	if len(batch) == 0 {
		u.batch = 0 // the next miss asks again
	}
	a.mu.Unlock()
	if len(batch) > 0 {
		u.s.slots.at(batch[0].Index).flags.Or(slotMark)
		r.background(r.ctx, batch, byAhead, r.o.MaxRange, 0)
	}
}
