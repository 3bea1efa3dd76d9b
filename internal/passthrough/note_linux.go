package passthrough

import (
	"sync"
	"unsafe"
)

// Notes are what a successor must know of requests that cannot be carried out
// twice. They lie in the head of the table, behind its fields.
type note struct {
	mu *sync.Mutex
	at *noteRecord
}

// noteRecord says that the request unique was about to change a name that was
// the file key. unique is set last.
type noteRecord struct {
	unique uint64
	key    identity
}

const (
	noteOffset = 256
	noteCount  = 16
)

// resendBit marks the id of a request that the kernel sends again.
const resendBit = 1 << 63

// note returns the note of a request. Its mu is held while the request is
// carried out.
func (t *table) note(unique uint64) note {
	k := (unique &^ resendBit) >> 1 % noteCount
	notes := (*[noteCount]noteRecord)(unsafe.Pointer(&t.head[noteOffset]))
	return note{&t.noteMu[k], &notes[k]}
}

func (n note) is(unique uint64) bool { return n.at.unique == unique&^resendBit }

func (n note) set(unique uint64, key identity) {
	n.at.unique = 0
	n.at.key = key
	n.at.unique = unique &^ resendBit
}
