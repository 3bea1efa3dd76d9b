package build

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A directory does what a map does, and keeps the order in which names came.
func TestDirNamesLikeMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d dirNames
	want := map[string]*inode{}
	var came []string
	for range 20_000 {
		name := fmt.Sprint(r.IntN(3000))
		switch r.IntN(4) {
		case 0:
			d.remove(name)
			delete(want, name)
		default:
			n := &inode{}
			d.set(name, n)
			want[name] = n
			if !slices.Contains(came, name) {
				came = append(came, name)
			}
		}
		if other := fmt.Sprint(r.IntN(3000)); d.get(other) != want[other] {
			t.Fatalf("%s: got %p, want %p", other, d.get(other), want[other])
		}
	}
	for i, e := range d.list {
		if e.name != came[i] {
			t.Fatalf("entry %d: got %s, want %s", i, e.name, came[i])
		}
	}
	d.sort()
	if len(d.list) != len(want) {
		t.Errorf("after sort: got %d names, want %d", len(d.list), len(want))
	}
	if !slices.IsSortedFunc(d.list, func(a, b entry) int { return strings.Compare(a.name, b.name) }) {
		t.Error("after sort: not in order")
	}
	for name, n := range want {
		if d.get(name) != n {
			t.Errorf("after sort: %s: got %p, want %p", name, d.get(name), n)
		}
	}
}

func TestDigestIndexLikeMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var v chunkVec
	var x digestIndex
	want := map[[32]byte]uint32{}
	digest := func() (d [32]byte) {
		d[r.IntN(2)*8] = byte(r.IntN(40)) // many that are nearly alike
		d[31] = byte(r.IntN(60))
		return d
	}
	for range 10_000 {
		d := digest()
		at, ok := x.find(&v, &d)
		if first, known := want[d]; ok != known || ok && at != first {
			t.Fatalf("%x: got %d, %v; want %d, %v", d, at, ok, first, known)
		}
		i := v.add(&chunk{digest: d})
		x.add(&v, i) // only the first counts
		if !ok {
			want[d] = i
		}
	}
	if x.n != len(want) {
		t.Errorf("digests: got %d, want %d", x.n, len(want))
	}
}
