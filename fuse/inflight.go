package fuse

import (
	"sync"
	"sync/atomic"
)

// inflight finds a running request by its unique, for INTERRUPT, for late
// answers and for dumps. Requests that come and go take no lock: each holds a
// slot of an open table for as long as it runs. The kernel numbers requests in
// sequence, so the hash spreads neighbours over different cache lines. A
// request that finds its few slots taken goes to a map.
type inflight struct {
	slots [inflightSlots]atomic.Pointer[Request]
	count atomic.Int64

	mu       sync.Mutex // guards overflow; a leaf
	overflow map[uint64]*Request
	spilled  atomic.Int64 // len(overflow)
}

const (
	inflightSlots  = 4096 // a power of two
	inflightProbes = 4
)

func inflightIndex(unique uint64, probe int) uint64 {
	// Fibonacci hashing; a unique's lowest bit says "interrupt", bit 63 "resent".
	h := (unique << 1 >> 2) * 0x9E3779B97F4A7C15
	return (h>>52 + uint64(probe)*64) % inflightSlots
}

// add enters r under its unique and tells where.
func (t *inflight) add(r *Request, unique uint64) (slot int32) {
	t.count.Add(1)
	for i := range inflightProbes {
		n := inflightIndex(unique, i)
		if t.slots[n].CompareAndSwap(nil, r) {
			return int32(n)
		}
	}
	t.mu.Lock()
	if t.overflow == nil {
		t.overflow = make(map[uint64]*Request)
	}
	t.overflow[unique] = r
	t.spilled.Store(int64(len(t.overflow)))
	t.mu.Unlock()
	return -1
}

// remove takes out the request that add entered.
func (t *inflight) remove(slot int32, unique uint64) {
	t.count.Add(-1)
	if slot >= 0 {
		t.slots[slot].Store(nil)
		return
	}
	t.mu.Lock()
	delete(t.overflow, unique)
	t.spilled.Store(int64(len(t.overflow)))
	t.mu.Unlock()
}

// find returns the request with that unique, or nil. By the time the caller
// looks it may have ended and begun anew: it checks the unique again under the
// request's lock.
func (t *inflight) find(unique uint64) *Request {
	for i := range inflightProbes {
		r := t.slots[inflightIndex(unique, i)].Load()
		if r != nil && r.unique.Load() == unique {
			return r
		}
	}
	if t.spilled.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.overflow[unique]
}

// each calls f for the requests that run, in no order.
func (t *inflight) each(f func(*Request)) {
	for i := range t.slots {
		if r := t.slots[i].Load(); r != nil {
			f(r)
		}
	}
	t.mu.Lock()
	spilled := make([]*Request, 0, len(t.overflow))
	for _, r := range t.overflow {
		spilled = append(spilled, r)
	}
	t.mu.Unlock()
	for _, r := range spilled {
		f(r)
	}
}
