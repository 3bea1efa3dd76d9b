package memfs

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"
)

// Pages are compared with a slice of bytes, through everything that can be
// done to them, at the beginning and at places that lie in several groups.
func TestPagesAgainstModel(t *testing.T) {
	t.Run("beginning", func(t *testing.T) { testPagesAgainstModel(t, 0) })
	t.Run("groups", func(t *testing.T) { testPagesAgainstModel(t, groupPages*pageSize-pageSize) })
}

// testPagesAgainstModel looks at a region from base on.
func testPagesAgainstModel(t *testing.T, base int64) {
	const (
		region  = 3 * pageSize
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
			if r.IntN(4) == 0 {
				at %= 5000
			}
			n := min(1+r.Int64N(maxPart), region-at)
			if r.IntN(2) == 0 {
				n = 1 + n%3000
				n = min(n, region-at)
			}
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

// Small files take what they hold, in sectors, and not more than twice of it
// when they grow by and by.
func TestPagesOfSmallFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []int64 // lengths, one after another
		stored int64
	}{
		{"one byte", []int64{1}, sector},
		{"a page of the kernel's", []int64{4096}, 4096},
		{"in one go", []int64{5000}, 5120},
		{"by lines", []int64{400, 400, 400, 400}, 2048},
		{"two pages", []int64{pageSize, 1}, 2 * pageSize},
	} {
		var p pages
		for _, n := range c.writes {
			want := p.stored + p.missing(p.size, n)
			p.back(p.size, n)
			p.writeAt(make([]byte, n), p.size)
			if p.stored != want {
				t.Errorf("%s: %d bytes taken, announced were %d", c.name, p.stored, want)
			}
		}
		if p.stored != c.stored {
			t.Errorf("%s: takes %d bytes, want %d", c.name, p.stored, c.stored)
		}
		p.truncate(1)
		if p.stored != sector {
			t.Errorf("%s: takes %d bytes when truncated to 1, want %d", c.name, p.stored, sector)
		}
	}
}
