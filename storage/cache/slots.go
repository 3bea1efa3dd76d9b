package cache

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/storage"
)

// sealer condenses what makes two chunks the same into 64 bits. Its keys are
// drawn at start, so that no image can be made whose chunk has the seal of
// another.
type sealer struct{ k0, k1, k2 uint64 }

func (s *sealer) seal(ch *storage.Chunk) uint64 {
	h := s.k0 ^ uint64(ch.UncompressedOffset)
	d := &ch.Digest.Sum
	for i := 0; i < len(d); i += 8 {
		w := uint64(d[i]) | uint64(d[i+1])<<8 | uint64(d[i+2])<<16 | uint64(d[i+3])<<24 |
			uint64(d[i+4])<<32 | uint64(d[i+5])<<40 | uint64(d[i+6])<<48 | uint64(d[i+7])<<56
		h = s.mix(h ^ w)
	}
	h = s.mix(h ^ uint64(ch.UncompressedSize)<<32 ^ uint64(ch.Index))
	h = s.mix(h ^ uint64(ch.CRC32C)<<16 ^ uint64(ch.Flags&(storage.HasDigest|storage.HasCRC32C))<<8 ^ uint64(ch.Digest.Algorithm))
	return h | 1 // 0 is "nothing known"
}

func (s *sealer) mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x, s.k1)
	return hi ^ lo ^ s.k2
}

// slot is what this process knows of one chunk of a blob's files.
type slot struct {
	seal   atomic.Uint64 // of the chunk whose verified bytes are there, or 0
	access atomic.Uint32 // last use, minutes since 1970
	flags  atomic.Uint32
}

// Flags of a slot.
const (
	slotExtra    = 1 << iota // the bytes lie in the extra file
	slotMark                 // using it asks the read-ahead for more
	slotExpected             // it was brought because it was expected, and nobody has read it
)

// unmark takes a flag off and reports whether it was set.
func (s *slot) unmark(flag uint32) bool { return s.flags.And(^flag)&flag != 0 }

const slotPage = 512

// slots is a table of slots by chunk index that grows, with pages that are
// made at first use. Looking up takes no lock.
type slots struct {
	mu  sync.Mutex // serialises growing; leaf
	dir atomic.Pointer[[]atomic.Pointer[[slotPage]slot]]
}

// find returns the slot of index i, or nil if nothing is known of it.
func (t *slots) find(i uint32) *slot {
	dir := t.dir.Load()
	if dir == nil || int(i/slotPage) >= len(*dir) {
		return nil
	}
	page := (*dir)[i/slotPage].Load()
	if page == nil {
		return nil
	}
	return &page[i%slotPage]
}

// at returns the slot of index i, which is below maxChunks.
func (t *slots) at(i uint32) *slot {
	if s := t.find(i); s != nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var old []atomic.Pointer[[slotPage]slot]
	if d := t.dir.Load(); d != nil {
		old = *d
	}
	n := int(i / slotPage)
	if n >= len(old) {
		grown := make([]atomic.Pointer[[slotPage]slot], max(n+1, min(2*len(old), maxChunks/slotPage)))
		for k := range old {
			grown[k].Store(old[k].Load())
		}
		old = grown
		t.dir.Store(&old)
	}
	page := old[n].Load()
	if page == nil {
		page = new([slotPage]slot)
		old[n].Store(page)
	}
	return &page[i%slotPage]
}

// each calls f for all slots that have ever been asked for.
func (t *slots) each(f func(i uint32, s *slot)) {
	dir := t.dir.Load()
	if dir == nil {
		return
	}
	for n := range *dir {
		page := (*dir)[n].Load()
		if page == nil {
			continue
		}
		for k := range page {
			f(uint32(n*slotPage+k), &page[k])
		}
	}
}
