package memfs

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"
)

// Pages are compared with a slice of bytes, through everything that can be
// done to them, at places that lie in several groups.
func TestPagesAgainstModel(t *testing.T) {
	const (
		region  = 3 * pageSize // what is looked at, from base on
		base    = groupPages*pageSize - pageSize
		maxPart = pageSize + 100
	)
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		var p pages
		model := make([]byte, region)
		size, held := int64(0), int64(0)
		got := make([]byte, region)
		for op := range 2000 {
			at := r.Int64N(region - 1)
			if r.IntN(3) == 0 {
				at = at / pageSize * pageSize
			}
			n := min(1+r.Int64N(maxPart), region-at)
			switch r.IntN(5) {
			case 0, 1:
				b := bytes.Repeat([]byte{byte(op) | 1}, int(n))
				held += p.missing(base+at, n)
				p.back(base+at, n)
				p.writeAt(b, base+at)
				copy(model[at:], b)
				size = max(size, base+at+n)
			case 2:
				held -= p.punch(base+at, n)
				clear(model[at : at+n])
			case 3:
				held -= p.truncate(base + at)
				clear(model[at:])
				size = base + at
			case 4: // room is made, and the size stays
				held += p.missing(base+at, n)
				p.back(base+at, n)
			}
			clear(got)
			p.readAt(got, base)
			if !bytes.Equal(got, model) {
				t.Fatalf("seed %d, operation %d: the data differs", seed, op)
			}
			if p.size != size || p.stored != held {
				t.Fatalf("seed %d, operation %d: size %d, stored %d; want %d, %d", seed, op, p.size, p.stored, size, held)
			}
		}
		if freed := p.truncate(0); freed != held || p.stored != 0 {
			t.Errorf("seed %d: %d bytes freed of %d, %d left", seed, freed, held, p.stored)
		}
	}
}

// One byte at the far end of the largest file takes a page, and little else;
// what lies before it is found to be a hole without going through it.
func TestPagesFarAway(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var p pages
	p.back(maxSize-1, 1)
	p.writeAt([]byte{1}, maxSize-1)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 2<<20 {
		t.Errorf("it takes %d bytes", took)
	}
	if off, ok := p.seek(0, true); off != maxSize-pageSize || !ok {
		t.Errorf("data at %d, %v", off, ok)
	}
	if off, ok := p.seek(maxSize-1, false); off != maxSize || !ok {
		t.Errorf("the hole after it is at %d, %v", off, ok)
	}
	if freed := p.punch(0, maxSize); freed != pageSize {
		t.Errorf("%d bytes freed", freed)
	}
	if off, ok := p.seek(0, true); ok {
		t.Errorf("data at %d of a hole", off)
	}
}
