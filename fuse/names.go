package fuse

import (
	"hash/maphash"
	"sync/atomic"
)

// names turns the bytes of names into strings that may be kept for ever,
// without allocating for a name that was seen lately: programs ask for the
// same names again and again. It holds at most nameSlots strings. Safe for
// concurrent use, without locks.
type names struct {
	slots [nameSlots]atomic.Pointer[string]
}

const nameSlots = 4096 // a power of two

var nameSeed = maphash.MakeSeed()

// String returns b as a string.
func (t *names) String(b []byte) string {
	slot := &t.slots[maphash.Bytes(nameSeed, b)%nameSlots]
	if s := slot.Load(); s != nil && *s == string(b) {
		return *s
	}
	s := string(b)
	slot.Store(&s)
	return s
}
