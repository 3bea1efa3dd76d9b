// Package stall finds readers that do not come back from a handler.
//
// A reader marks each turn that it takes ([Turn.Begin], [Turn.End]); that costs
// two atomic operations. A [Monitor] looks at all turns every few
// milliseconds, while there is anything to look at: a turn that is the same as
// at the last look belongs to a handler that blocks, and is taken away
// ([Turn.Steal]), so that somebody else may go on in the reader's place. The
// reader learns of it when the handler returns at last.
package stall

import (
	"sync"
	"sync/atomic"
	"time"
)

// Turn is the state of one reader. The zero value is a reader that waits.
type Turn struct {
	v    atomic.Uint64 // sequence<<2 | state
	seen uint64        // at the last look; the monitor's
}

const (
	waiting  = 0
	handling = 1
	stolen   = 2
	mask     = 3
)

// Begin marks that a handler is about to be called, and returns the ticket for
// End and Steal. Only the reader calls it.
func (t *Turn) Begin() (ticket uint64) {
	ticket = (t.v.Load() | mask) + 1 | handling
	t.v.Store(ticket)
	return ticket
}

// End marks that the handler returned. It reports false if the turn was taken
// away meanwhile: the reader has been replaced.
func (t *Turn) End(ticket uint64) bool {
	return t.v.CompareAndSwap(ticket, ticket&^mask)
}

// Steal takes the turn away if its handler is still running, and reports
// whether it was this call that did. Any goroutine may call it.
func (t *Turn) Steal(ticket uint64) bool {
	return t.v.CompareAndSwap(ticket, ticket&^mask|stolen)
}

// Look is for the monitor's scan: moved says that something happened since the
// last look, inside that a handler is running now, stuck that it is the same
// one as then.
func (t *Turn) Look() (ticket uint64, moved, inside, stuck bool) {
	v := t.v.Load()
	moved = v != t.seen
	t.seen = v
	inside = v&mask == handling
	return v, moved, inside, inside && !moved
}

// idleLooks is how many looks at nothing send the monitor to sleep.
const idleLooks = 20

// Monitor calls a function at a steady pace while readers are active.
type Monitor struct {
	period time.Duration
	scan   func() (active bool)
	asleep atomic.Bool
	wake   chan struct{}
	quit   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
}

// Start begins to call scan every period. scan reports whether there was
// anything to see; when there was nothing for a while the monitor sleeps until
// [Monitor.Wake].
func Start(period time.Duration, scan func() (active bool)) *Monitor {
	m := &Monitor{period: period, scan: scan, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	m.wg.Go(m.run)
	return m
}

// Wake makes a sleeping monitor look again. Readers call it when they begin a
// turn; it is a load of a word that rarely changes.
func (m *Monitor) Wake() {
	if m.asleep.Load() {
		m.rouse()
	}
}

func (m *Monitor) rouse() {
	if m.asleep.CompareAndSwap(true, false) {
		m.wake <- struct{}{}
	}
}

// Stop ends the monitor and waits for a running scan.
func (m *Monitor) Stop() {
	m.once.Do(func() { close(m.quit) })
	m.wg.Wait()
}

func (m *Monitor) run() {
	timer := time.NewTimer(m.period)
	defer timer.Stop()
	for idle := 0; ; {
		if idle < idleLooks {
			timer.Reset(m.period)
			select {
			case <-timer.C:
			case <-m.quit:
				return
			}
		} else {
			m.asleep.Store(true)
			// A turn that began before the flag was seen would not wake us.
			if m.scan() {
				m.rouse()
			}
			select {
			case <-m.wake:
			case <-m.quit:
				return
			}
			idle = 0
			continue
		}
		if m.scan() {
			idle = 0
		} else {
			idle++
		}
	}
}
