package fs

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// A slab gives numbers to values, and finds a value by its number without a
// lock. It names node ids and file handles.
//
// A number is a turn and a slot: turn<<slotBits | slot. The turn counts how
// often the slot has been given, so that a number is not given again though
// slots are; a slot whose turns are used up is left out. No number is below
// 1<<slotBits: 0 and 1 are free for the caller. The slots of a chunk take
// turns, which keeps numbers small.
//
// Slots lie in chunks, and chunks belong to shards, each with its own lock
// for giving and taking back. A chunk that is empty goes back to the heap; the
// turns that its slots have had are kept.
// The zero value is ready.
type slab[T any] struct {
	live   atomic.Int64
	table  atomic.Pointer[[]atomic.Pointer[chunk[T]]] // by slot >> chunkBits
	grow   sync.Mutex                                 // table, spare
	spare  []int32                                    // positions in table that were given back
	turns  []uint32                                   // by position: turns that no slot there has had
	shards [slabShards]slabShard[T]
}

const (
	slotBits   = 28 // at most 268 million values at a time
	chunkBits  = 8
	chunkSlots = 1 << chunkBits
	slabShards = 16
	lastTurn   = 1<<32 - 1
)

type slabShard[T any] struct {
	mu   sync.Mutex
	open []*chunk[T] // chunks with a free slot
	_    [24]byte    // a cache line each
}

type chunk[T any] struct {
	shard *slabShard[T]
	pos   int32              // in table
	at    int32              // in shard.open, -1 if full
	free  []uint8            // first in, first out
	turns [chunkSlots]uint32 // the last of each slot
	slots [chunkSlots]slot[T]
}

type slot[T any] struct {
	id atomic.Uint64 // 0: free. Set after v, cleared before it
	v  atomic.Pointer[T]
}

// get returns the value of a number, or nil.
func (s *slab[T]) get(id uint64) *T {
	c := s.chunk(id)
	if c == nil {
		return nil
	}
	sl := &c.slots[id&(chunkSlots-1)]
	if sl.id.Load() != id {
		return nil
	}
	v := sl.v.Load()
	if sl.id.Load() != id { // taken back meanwhile, v may be another's
		return nil
	}
	return v
}

func (s *slab[T]) chunk(id uint64) *chunk[T] {
	table := s.table.Load()
	pos := (id & (1<<slotBits - 1)) >> chunkBits
	if id == 0 || table == nil || pos >= uint64(len(*table)) {
		return nil
	}
	return (*table)[pos].Load()
}

// put gives v a number; ok is false if all slots are taken.
func (s *slab[T]) put(v *T) (id uint64, ok bool) {
	sh := &s.shards[rand.Uint32()%slabShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.open) == 0 {
		c := s.newChunk(sh)
		if c == nil {
			return 0, false
		}
		c.at = 0
		sh.open = append(sh.open, c)
	}
	c := sh.open[len(sh.open)-1]
	i := c.free[0]
	c.free = c.free[:copy(c.free, c.free[1:])]
	if len(c.free) == 0 {
		sh.open = sh.open[:len(sh.open)-1]
		c.at = -1
	}
	c.turns[i]++
	id = uint64(c.turns[i])<<slotBits | uint64(c.pos)<<chunkBits | uint64(i)
	c.slots[i].v.Store(v)
	c.slots[i].id.Store(id)
	s.live.Add(1)
	return id, true
}

// remove takes a number back and returns its value, nil if it has none.
func (s *slab[T]) remove(id uint64) *T {
	c := s.chunk(id)
	if c == nil {
		return nil
	}
	sh := c.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := uint8(id & (chunkSlots - 1))
	sl := &c.slots[i]
	if sl.id.Load() != id {
		return nil
	}
	sl.id.Store(0)
	v := sl.v.Swap(nil)
	s.live.Add(-1)
	if c.turns[i] == lastTurn {
		return v
	}
	c.free = append(c.free, i)
	if c.at < 0 {
		c.at = int32(len(sh.open))
		sh.open = append(sh.open, c)
	}
	if len(c.free) == chunkSlots && len(sh.open) > 1 {
		s.dropChunk(sh, c)
	}
	return v
}

func (s *slab[T]) newChunk(sh *slabShard[T]) *chunk[T] {
	c := &chunk[T]{shard: sh, free: make([]uint8, chunkSlots)}
	for i := range c.free {
		c.free[i] = uint8(i)
	}
	s.grow.Lock()
	defer s.grow.Unlock()
	if len(s.spare) == 0 && !s.growTable() {
		return nil
	}
	// the lowest position, so that the table stays short
	c.pos = s.spare[len(s.spare)-1]
	s.spare = s.spare[:len(s.spare)-1]
	for i := range c.turns {
		c.turns[i] = s.turns[c.pos]
	}
	(*s.table.Load())[c.pos].Store(c)
	return c
}

// growTable doubles the table; readers go on with the old one, whose chunks
// are the same.
func (s *slab[T]) growTable() bool {
	var old []atomic.Pointer[chunk[T]]
	if p := s.table.Load(); p != nil {
		old = *p
	}
	n := max(16, 2*len(old))
	if n > 1<<(slotBits-chunkBits) {
		return false
	}
	table := make([]atomic.Pointer[chunk[T]], n)
	for i := range old {
		table[i].Store(old[i].Load())
	}
	for i := n - 1; i >= len(old); i-- {
		s.spare = append(s.spare, int32(i))
	}
	s.turns = append(s.turns, make([]uint32, n-len(s.turns))...)
	s.table.Store(&table)
	return true
}

func (s *slab[T]) dropChunk(sh *slabShard[T], c *chunk[T]) {
	last := sh.open[len(sh.open)-1]
	sh.open[c.at] = last
	last.at = c.at
	sh.open[len(sh.open)-1] = nil
	sh.open = sh.open[:len(sh.open)-1]
	s.grow.Lock()
	(*s.table.Load())[c.pos].Store(nil)
	s.turns[c.pos] = slices.Max(c.turns[:])
	s.spare = append(s.spare, c.pos)
	s.grow.Unlock()
}

// scan calls f for the values in the chunk at position pos, and returns the
// position of the next chunk, 0 after the last. It holds no lock.
func (s *slab[T]) scan(pos int, f func(*T)) (next int) {
	table := s.table.Load()
	if table == nil || pos >= len(*table) {
		return 0
	}
	if c := (*table)[pos].Load(); c != nil {
		for i := range c.slots {
			if v := c.slots[i].v.Load(); v != nil {
				f(v)
			}
		}
	}
	return (pos + 1) % len(*table)
}
