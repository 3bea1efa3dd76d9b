package fs

import (
	"sync"
	"testing"
)

func TestSlabNumbersAreNotReused(t *testing.T) {
	var s slab[int]
	seen := map[uint64]bool{}
	for round := range 5 {
		ids := make([]uint64, 10000)
		for i := range ids {
			v := i
			id, ok := s.put(&v)
			if !ok || id <= 1 || seen[id] {
				t.Fatalf("round %d: number %d given, ok %v, before: %v", round, id, ok, seen[id])
			}
			seen[id], ids[i] = true, id
		}
		for i, id := range ids {
			if v := s.get(id); v == nil || *v != i {
				t.Fatalf("get %d: got %v, want %d", id, v, i)
			}
		}
		for i, id := range ids {
			if v := s.remove(id); v == nil || *v != i {
				t.Fatalf("remove %d: got %v, want %d", id, v, i)
			}
			if s.get(id) != nil || s.remove(id) != nil {
				t.Fatalf("number %d is alive after its removal", id)
			}
		}
		chunks := 0
		for i := range *s.table.Load() {
			if (*s.table.Load())[i].Load() != nil {
				chunks++
			}
		}
		if chunks > slabShards {
			t.Errorf("round %d: %d chunks are left of an empty slab, want at most %d", round, chunks, slabShards)
		}
	}
	for _, id := range []uint64{0, 1, 1 << 27, 1<<63 | 5, ^uint64(0)} {
		if s.get(id) != nil || s.remove(id) != nil {
			t.Errorf("number %d, which was never given, is known", id)
		}
	}
}

func TestSlabConcurrent(t *testing.T) {
	var s slab[int]
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				v := g<<20 | i
				id, _ := s.put(&v)
				if got := s.get(id); got != &v {
					t.Errorf("get: got %v", got)
				}
				if got := s.remove(id); got != &v {
					t.Errorf("remove: got %v", got)
				}
			}
		})
	}
	wg.Wait()
	if n := s.live.Load(); n != 0 {
		t.Errorf("%d values are left, want 0", n)
	}
}
