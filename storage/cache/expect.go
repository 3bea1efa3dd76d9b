package cache

import (
	"slices"
	"sync"

	"github.com/sluicefs/sluice/storage"
)

// Expectations are chunks that will likely be read soon: the rest of a file
// whose beginning was just read, and what lies behind a small chunk that
// somebody missed. They are fetched behind what readers wait for, one that
// was named last first, as far as a budget goes: what was brought and nobody
// has read yet stays below expectFree and expectShare of what was read. So a
// line is used while a reader thinks, and one whose next steps cannot be told
// costs little: at most that much is fetched in vain, however long it reads.
const (
	expectFree  = 2 << 20   // stored bytes
	expectShare = 4         // one part in so many of what was read
	expectRange = 512 << 10 // stored bytes of one range at most, unless one chunk has more
	expectBusy  = 1         // ranges under way
	maxExpected = 16        // lists; the oldest goes
	maxListed   = 1024      // chunks in a list

	// What a small chunk brings along from behind it: at 100 Mbit/s and 10 ms
	// an eighteenth of the time that a request of its own would take.
	smallMiss = 64 << 10
	smallMore = 8 << 10

	// smallShare is how much has to be read before neighbours are tried: their
	// share of what is fetched in vain stays below one part in so many.
	smallShare = 16
)

// expected is what a Reader expects to be read.
type expected struct {
	mu     sync.Mutex // leaf
	lists  [][]storage.Chunk
	busy   int   // ranges under way
	unused int64 // stored bytes that were brought and are not read yet
	read   int64 // stored bytes that readers wanted
}

// expect notes that the chunks of ext will likely be read next.
func (r *Reader) expect(ext []storage.Extent) {
	if r.o.Window < 0 || len(ext) == 0 {
		return
	}
	list := make([]storage.Chunk, 0, min(len(ext), maxListed))
	for i := range ext {
		ch := &ext[i].Chunk
		if len(list) == cap(list) {
			break
		}
		if !ext[i].Hole() && (len(list) == 0 || !sameChunk(ch, &list[len(list)-1])) && r.lacks(ch) {
			list = append(list, *ch)
		}
	}
	r.expectChunks(list)
}

// expectBehind notes that what lies behind the small chunks that somebody
// missed will likely be read.
func (r *Reader) expectBehind(missed []*flight) {
	if r.o.Window < 0 || len(missed) == 0 {
		return
	}
	last := &missed[len(missed)-1].ch
	if last.Blob.Neighbour == nil || stored(last) > smallMiss || !r.expected.lucky() {
		return
	}
	var list []storage.Chunk
	for i, n := last.Index+1, int64(0); ; i++ {
		ch, ok := last.Blob.Neighbour(i)
		if !ok || ch.Blob != last.Blob || checkChunk(&ch) != nil || !r.lacks(&ch) {
			break
		}
		if n += stored(&ch); n > smallMore {
			break
		}
		list = append(list, ch)
	}
	r.expectChunks(list)
}

func sameChunk(a, b *storage.Chunk) bool { return a.Index == b.Index && a.Blob == b.Blob }

// lacks reports whether ch can be kept and is not there.
func (r *Reader) lacks(ch *storage.Chunk) bool {
	s := r.c.store(ch.Blob)
	if s.data == nil || !keepable(ch) || checkChunk(ch) != nil {
		return false
	}
	_, ok := r.look(s, ch, 0, false)
	return !ok
}

func (r *Reader) expectChunks(list []storage.Chunk) {
	if len(list) == 0 {
		return
	}
	e := &r.expected
	e.mu.Lock()
	if len(e.lists) == maxExpected {
		e.lists = slices.Delete(e.lists, 0, 1)
	}
	e.lists = append(e.lists, list)
	e.mu.Unlock()
	r.pursue()
}

// pursue fetches what is expected as far as the budget goes.
func (r *Reader) pursue() {
	for {
		next, n := r.expected.take()
		if len(next) == 0 {
			return
		}
		if !r.spawn(func() { r.bringExpected(next, n); r.pursue() }) {
			r.expected.give(n)
			return
		}
	}
}

// take returns chunks for one range, and their stored bytes, which count as
// unused from now on. None are returned when nothing is expected or allowed.
func (e *expected) take() (next []storage.Chunk, n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy == expectBusy {
		return nil, 0
	}
	allowed := expectFree + e.read/expectShare
	for len(e.lists) > 0 {
		l := e.lists[len(e.lists)-1]
		k := 0
		for ; k < len(l); k++ {
			size := stored(&l[k])
			if k > 0 && (n+size > expectRange || l[k].Blob != l[0].Blob) || e.unused+n > 0 && e.unused+n+size > allowed {
				break
			}
			n += size
		}
		if len(l) > k {
			e.lists[len(e.lists)-1] = l[k:]
		} else {
			e.lists = e.lists[:len(e.lists)-1]
		}
		if k > 0 {
			e.busy++
			e.unused += n
			return l[:k], n
		}
		if len(l) > 0 {
			break // not allowed now
		}
	}
	return nil, 0
}

// lucky reports whether nothing better is expected, and so little of what was
// brought is unread that a mere neighbour may be tried.
func (e *expected) lucky() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lists) == 0 && e.busy == 0 && e.unused+smallMore <= e.read/smallShare
}

// give ends a range of which n bytes did not come for us.
func (e *expected) give(n int64) {
	e.mu.Lock()
	e.busy--
	e.unused -= n
	e.mu.Unlock()
}

// wanted notes n stored bytes that a reader wanted; hit says that they had
// been brought for it. It reports whether that allows more to be fetched.
func (e *expected) wanted(n int64, hit bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.read += n
	if hit {
		e.unused = max(0, e.unused-n)
	}
	return len(e.lists) > 0 && e.busy < expectBusy
}

// bringExpected fetches chunks of n stored bytes, those that nobody fetches.
func (r *Reader) bringExpected(next []storage.Chunk, n int64) {
	var wanted []*flight
	for i := range next {
		ch := &next[i]
		if !r.lacks(ch) {
			continue // somebody was quicker
		}
		wanted = append(wanted, &flight{s: r.c.store(ch.Blob), ch: *ch, seal: r.c.seals.seal(ch)})
	}
	for _, sp := range r.plan(wanted, max(r.o.MaxRange, n)) {
		sp.paid = sp.cost()
		if r.c.gate.enter(r.ctx, byGuess, sp.paid) != nil {
			break
		}
		sp.flights = r.claim(sp.flights)
		if len(sp.flights) == 0 {
			r.c.gate.leave(byGuess, sp.paid)
			continue
		}
		mine := sp.flights
		for _, f := range mine {
			f.s.slots.at(f.ch.Index).flags.Or(slotExpected)
		}
		r.launch(sp, byGuess, true)
		for _, f := range mine {
			if f.wait(r.ctx, nil, 0) == nil {
				n -= stored(&f.ch) // stays counted until it is read
			} else if f.s.slots.at(f.ch.Index).unmark(slotExpected) {
				continue
			} else {
				n -= stored(&f.ch) // a reader came meanwhile, and it was taken off then
			}
		}
	}
	r.expected.give(n)
}
