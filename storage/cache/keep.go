package cache

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// keep writes a landed chunk to disk, if it can be and there is room, and
// reports whether it did. A chunk whose place another image has taken counts
// as kept: that is too rare to be worth memory.
func (r *Reader) keep(f *flight) bool {
	s := f.s
	if s.data == nil || !keepable(&f.ch) || !r.c.room(int64(len(f.data))) {
		return false
	}
	err := s.put(&f.ch, f.data, f.seal)
	if err == nil {
		r.n.stored.Add(uint64(len(f.data)))
		if f.ch.Flags&storage.HasDigest != 0 {
			r.c.digests.add(&f.ch.Digest, nameHash(s.name), f.ch.Index)
		}
		return true
	}
	if errors.Is(err, errClaimed) {
		return true
	}
	count(&r.n, &r.c.n, func(n *counters) { n.storeErrors.Add(1) })
	r.c.unkept.add(r.c.log, f.ch.Blob.ID, err)
	return false
}

// unkept logs that chunks cannot be kept, at most once in unkeptEvery: on a
// full disk it would else be said of each chunk.
type unkept struct {
	mu     sync.Mutex // leaf
	logged time.Time
	chunks int // since
}

const unkeptEvery = time.Minute

func (u *unkept) add(log *slog.Logger, blob string, err error) {
	u.mu.Lock()
	u.chunks++
	n := u.chunks
	silent := !u.logged.IsZero() && time.Since(u.logged) < unkeptEvery
	if !silent {
		u.logged, u.chunks = time.Now(), 0
	}
	u.mu.Unlock()
	if !silent {
		log.Warn("cache: cannot keep chunks, reading on without", "chunks", n, "blob", blob, "error", err)
	}
}

// spares are chunks in memory that the disk did not keep, those added last:
// a chunk is read in several pieces, which would else fetch it several times.
// A spare is a flight that has landed and stays in its store's list, where
// who wants the chunk joins it.
type spares struct {
	mu      sync.Mutex // before store.mu
	flights []*flight  // the oldest first
	bytes   int64
}

// maxSpares bounds the memory of spares, in bytes.
const maxSpares = 16 << 20

// add makes a landed flight a spare. The caller has a reference of its own.
func (p *spares) add(f *flight) {
	size := int64(cap(f.data))
	if size > maxSpares {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f.s.mu.Lock()
	listed := f.s.flights[f.seal] == f && !f.spare
	if listed {
		f.spare = true
		f.refs.Add(1)
	}
	f.s.mu.Unlock()
	if !listed {
		return
	}
	p.flights = append(p.flights, f)
	p.bytes += size
	for p.bytes > maxSpares {
		p.remove(0)
	}
}

// remove drops the spare at i; mu is held.
func (p *spares) remove(i int) {
	f := p.flights[i]
	p.flights = slices.Delete(p.flights, i, i+1)
	p.bytes -= int64(cap(f.data))
	f.s.mu.Lock()
	f.spare = false
	f.s.mu.Unlock()
	f.retire()
}

// keep tries to keep the spares on disk, as there may be room again, until the
// first for which there is none. One caller at a time.
func (p *spares) keep() {
	p.mu.Lock()
	list := slices.Clone(p.flights)
	for _, f := range list {
		f.refs.Add(1)
	}
	p.mu.Unlock()
	full := false
	for _, f := range list {
		if !full && f.s.data != nil && keepable(&f.ch) && f.s.lockChunk(f.ch.Index) {
			full = !f.r.keep(f)
			f.s.unlockChunk(f.ch.Index)
			if !full {
				p.forget(f)
			}
		}
		f.unref()
	}
}

// forget drops f, if it is still a spare.
func (p *spares) forget(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.flights, f); i >= 0 {
		p.remove(i)
	}
}

// drop drops the spares of a reader, or with nil all of them.
func (p *spares) drop(r *Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.flights) - 1; i >= 0; i-- {
		if r == nil || p.flights[i].r == r {
			p.remove(i)
		}
	}
}

// wanted reports whether a reader waits, or has waited, for f.
func (f *flight) wanted() bool {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.urgent
}
