package uring

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/internal/sys"
)

// The journal of a slot lies behind the kernel's header, in the same page, and
// tells a successor how far its request had come. The three marks are commit
// ids; one that is not that of the request now in the slot means nothing.
const (
	takenAt = 512  // the copy of the request below is complete
	doneAt  = 520  // the answer is complete
	heldAt  = 528  // a server that pauses will not commit it
	sizeAt  = 536  // bytes of payload of the request
	savedAt = 544  // copy of fuse_in_header
	inputAt = 1024 // copy of the beginning of the payload
)

const (
	// savedInput is how much of a payload is copied: an answer that lies over
	// it is either no longer than this (names are), or the request has no
	// payload. IOCTL is the exception.
	savedInput = 256
	opIoctl    = 39
)

// journal is a slot's view of its marks; its zero value is that of a slot in
// private memory, which no successor will see.
type journal struct {
	taken, done, held *atomic.Uint64
	page              []byte // the slot's whole head
}

func newJournal(head []byte) journal {
	mark := func(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&head[at])) }
	return journal{taken: mark(takenAt), done: mark(doneAt), held: mark(heldAt), page: head}
}

// take copies what the answer will overwrite. A thread that is killed has done
// all that comes before in its program, so the order of stores is all that
// counts.
func (s *slot) take(n int) {
	j := &s.journal
	if j.page == nil {
		return
	}
	ne := binary.NativeEndian
	ne.PutUint32(j.page[sizeAt:], uint32(n))
	copy(j.page[savedAt:savedAt+channel.HeaderSize], s.head)
	copy(j.page[inputAt:], s.payload[:s.saved(n)])
	j.taken.Store(s.commitID())
}

// saved is how much of a payload of n bytes the journal has.
func (s *slot) saved(n int) int {
	if binary.NativeEndian.Uint32(s.head[4:]) == opIoctl {
		return min(n, headPages*sys.PageSize-inputAt)
	}
	return min(n, savedInput)
}

// finished marks the answer as complete.
func (s *slot) finished() {
	if s.journal.page != nil {
		s.journal.done.Store(s.commitID())
	}
}

// park marks that the request, answered or not, stays for the successor.
func (s *slot) park() {
	if s.journal.page != nil {
		s.journal.held.Store(s.commitID())
	}
}

// parked reports, of a slot of another process, whether it will stay as it is.
func (j *journal) parked() bool {
	id := j.commitID()
	return id != 0 && j.held.Load() == id
}

func (j *journal) commitID() uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&j.page[commitAt])).Load()
}

// What a successor does with a slot.
type recovery int

const (
	fresh  recovery = iota // give it to the kernel as a new entry
	resend                 // commit the answer that is there
	redo                   // have a handler serve the request
)

// assess finds out what to do with a slot of the last server, and puts its
// request back to what the kernel wrote.
func (s *slot) assess() recovery {
	ne := binary.NativeEndian
	id := s.commitID()
	if id == 0 {
		return fresh
	}
	if s.journal.done.Load() == id {
		return resend
	}
	if s.journal.taken.Load() == id {
		page := s.journal.page
		copy(s.head, page[savedAt:savedAt+channel.HeaderSize])
		n := min(int(ne.Uint32(page[sizeAt:])), len(s.payload))
		ne.PutUint32(s.head[payloadAt:], uint32(n))
		copy(s.payload, page[inputAt:inputAt+s.saved(n)])
	}
	if ne.Uint64(s.head[8:]) != id {
		// The kernel had not finished writing the request, and told its caller
		// so. It will refuse this answer.
		s.fill(unix.EIO, 0)
		return resend
	}
	return redo
}
