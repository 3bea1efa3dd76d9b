package cache

import (
	"context"
	"sync"
)

// priority orders fetches: the lower goes first.
type priority uint8

const (
	byUser priority = iota
	bySoon
	byAhead
	byGuess
	byPrefetch
	priorities
)

// String returns what a fetch of this priority is called in a [Fetch].
func (p priority) String() string {
	return [...]string{"read", "soon", "ahead", "guess", "prefetch"}[p]
}

// gate bounds what is in flight: bytes of memory and ranges under way. Those
// who wait are let in by priority and then in the order they came. A
// prefetch does not begin while a user's fetch waits or is under way, and
// all but users leave part of the bounds free.
type gate struct {
	bytes int64 // bounds
	slots int

	mu      sync.Mutex // leaf
	used    int64
	busy    [priorities]int // ranges under way
	waiting [priorities][]*waiter
	quiet   chan struct{} // closed when users want nothing any more; nil if nobody waits for that
}

type waiter struct {
	n     int64
	ready chan struct{}
	in    bool // guarded by gate.mu: the waiter was let in
}

// enter waits for room for n bytes. Every nil is followed by one leave.
func (g *gate) enter(ctx context.Context, p priority, n int64) error {
	n = min(n, g.share(p))
	g.mu.Lock()
	if g.first(p) && g.fits(p, n) {
		g.take(p, n)
		g.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	g.waiting[p] = append(g.waiting[p], w)
	g.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.in { // let in meanwhile: give it back
		g.drop(p, n)
	} else {
		g.remove(p, w)
	}
	g.admit()
	return ctx.Err()
}

// leave gives back what enter took with the same values.
func (g *gate) leave(p priority, n int64) {
	g.mu.Lock()
	g.drop(p, min(n, g.share(p)))
	g.admit()
	g.mu.Unlock()
}

// users reports whether fetches of users wait or are under way; mu is held.
func (g *gate) users() bool { return g.busy[byUser] > 0 || len(g.waiting[byUser]) > 0 }

// yield returns when no user's fetch waits or is under way, or when rush is
// closed or ctx ends.
func (g *gate) yield(ctx context.Context, rush <-chan struct{}) {
	g.mu.Lock()
	if !g.users() {
		g.mu.Unlock()
		return
	}
	if g.quiet == nil {
		g.quiet = make(chan struct{})
	}
	quiet := g.quiet
	g.mu.Unlock()
	select {
	case <-quiet:
	case <-rush:
	case <-ctx.Done():
	}
}

// share is how many bytes fetches of a priority may hold.
func (g *gate) share(p priority) int64 {
	if p == byUser {
		return g.bytes
	}
	return g.bytes / 2
}

func (g *gate) fits(p priority, n int64) bool {
	others := g.busy[bySoon] + g.busy[byAhead] + g.busy[byGuess] + g.busy[byPrefetch]
	switch {
	case g.used > 0 && g.used+n > g.share(p), g.busy[byUser]+others >= g.slots:
		return false
	case p == byUser:
		return true
	case p == byGuess && g.busy[byUser] > 0:
		return false
	case p == byPrefetch && (g.busy[byUser] > 0 || g.busy[byPrefetch] >= prefetchRanges):
		return false
	}
	return others < max(1, g.slots/2)
}

// first reports whether nobody of the same or a higher priority waits.
func (g *gate) first(p priority) bool {
	for k := byUser; k <= p; k++ {
		if len(g.waiting[k]) > 0 {
			return false
		}
	}
	return true
}

func (g *gate) take(p priority, n int64) { g.used += n; g.busy[p]++ }
func (g *gate) drop(p priority, n int64) { g.used -= n; g.busy[p]-- }

func (g *gate) remove(p priority, w *waiter) {
	for i, o := range g.waiting[p] {
		if o == w {
			g.waiting[p] = append(g.waiting[p][:i], g.waiting[p][i+1:]...)
			return
		}
	}
}

// admit lets in who fits; mu is held.
func (g *gate) admit() {
	if g.quiet != nil && !g.users() {
		close(g.quiet)
		g.quiet = nil
	}
	for p := byUser; p <= byPrefetch; p++ {
		for len(g.waiting[p]) > 0 {
			w := g.waiting[p][0]
			if !g.fits(p, w.n) {
				return
			}
			g.waiting[p] = g.waiting[p][1:]
			g.take(p, w.n)
			w.in = true
			close(w.ready)
		}
	}
}
