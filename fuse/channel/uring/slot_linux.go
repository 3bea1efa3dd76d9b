package uring

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/internal/sys"
)

// struct fuse_uring_req_header: 128 bytes of header, 128 of arguments, and
// struct fuse_uring_ent_in_out.
const (
	errorAt    = 4 // of fuse_out_header, which lies over fuse_in_header
	argsAt     = 128
	commitAt   = 264
	payloadAt  = 272 // length of the payload
	headerSize = 288
	vecsAt     = 320 // ours: the two iovecs of REGISTER
)

const (
	// keepPayload is how much of a payload's memory stays for good.
	keepPayload = 64 << 10
	// trimAfter is how many requests in a row without more give back the rest.
	trimAfter = 1024
	// warmPayload is how much of a payload in shared memory is there from the
	// beginning. While a process is being killed the kernel can copy a request
	// into a page that is there, but not into one that it would have to get
	// first: the caller would see an error although a successor could answer.
	warmPayload = 8 << 10
)

// The life of a slot, as far as answering goes; see the same in the device
// channel.
const (
	idle = iota
	inline
	pending
	answered
)

// noTicket is the ticket of a request that no owner's turn is for.
const noTicket = ^uint64(0)

// slot is one entry of a queue: memory for one request, which its answer is
// written over. It implements channel.Slot.
type slot struct {
	req        channel.Request
	q          *queue
	index      int
	state      atomic.Int32
	ticket     uint64
	registered bool
	head       []byte // fuse_uring_req_header, the first bytes of a page
	vecs       []byte
	payload    []byte
	used       int  // bytes of payload that the last request or its answer had
	dirty      bool // more than keepPayload has memory
	small      int  // requests in a row that needed no more than keepPayload
	next       *slot
	again      bool // the next request was in a predecessor's hands
	journal    journal
}

// addSlots makes n more slots: of the region if there is one, else in memory
// of the queue's own.
func (q *queue) addSlots(n int) error {
	if q.c.region != nil {
		for range n {
			head, payload := q.c.region.slot(q.cpu, len(q.slots))
			sys.Populate(head[:sys.PageSize])
			sys.Populate(payload[:warmPayload])
			q.addSlot(head, payload).journal = newJournal(head)
		}
		q.c.region.count(q.cpu).Store(uint32(len(q.slots)))
		return nil
	}
	heads := n * sys.PageSize
	mem, err := sys.Map(heads + n*q.size)
	if err != nil {
		return err
	}
	q.mem = append(q.mem, mem)
	for i := range n {
		q.addSlot(mem[i*sys.PageSize:], mem[heads+i*q.size:][:q.size:q.size])
	}
	return nil
}

func (q *queue) addSlot(page, payload []byte) *slot {
	s := &slot{q: q, index: len(q.slots), head: page[:headerSize:headerSize], vecs: page[vecsAt : vecsAt+32], payload: payload}
	s.req = channel.Request{
		Header: s.head[:channel.HeaderSize:channel.HeaderSize], Args: s.head[argsAt:][:channel.MaxArgs:channel.MaxArgs],
		Out: s.payload, Split: true, Shared: true, Slot: s,
	}
	q.slots = append(q.slots, s)
	q.depth.Store(int32(len(q.slots)))
	return s
}

func (s *slot) commitID() uint64 { return binary.NativeEndian.Uint64(s.head[commitAt:]) }

// lend prepares the request for the handler. It reports false if the kernel's
// header makes no sense; the answer is then EIO already.
func (s *slot) lend() bool {
	s.registered = true
	n := int(binary.NativeEndian.Uint32(s.head[payloadAt:]))
	if n > len(s.payload) {
		s.fill(unix.EIO, 0)
		return false
	}
	s.trim()
	s.used = n
	s.ticket = noTicket
	s.req.Payload = s.payload[:n:n]
	s.req.Resent, s.again = s.again, false
	s.take(n)
	s.state.Store(inline)
	return true
}

// back reports, after the handler returned, whether the request was answered.
func (s *slot) back() bool { return !s.state.CompareAndSwap(inline, pending) }

// fill writes the answer's header.
func (s *slot) fill(errno syscall.Errno, n int) {
	ne := binary.NativeEndian
	ne.PutUint32(s.head[errorAt:], uint32(-int32(errno)))
	ne.PutUint32(s.head[payloadAt:], uint32(n))
	s.finished()
}

// Reply implements [channel.Slot]. Whether the kernel took the answer shows
// only later, so the error is always nil.
func (s *slot) Reply(errno syscall.Errno, n int) error {
	if n < 0 || n > len(s.payload) {
		errno = unix.EIO // a bug of the handler must not hang its caller
	}
	if errno != 0 {
		n = 0
	}
	s.used = max(s.used, n)
	s.fill(errno, n)
	s.settle()
	return nil
}

// trim gives the memory of large payloads back once many small ones have come
// in a row. The slot is ours at the moment, so the kernel does not write there.
func (s *slot) trim() {
	if s.used > keepPayload {
		s.dirty, s.small = true, 0
		return
	}
	if s.small++; s.dirty && s.small >= trimAfter {
		if s.journal.page != nil {
			sys.DiscardShared(s.payload[keepPayload:])
		} else {
			sys.Discard(s.payload[keepPayload:])
		}
		s.dirty = false
	}
}

func (s *slot) settle() {
	if s.state.Swap(answered) == pending {
		s.q.pushLate(s)
		s.q.c.came(1) // pending ends, late begins
	}
}

// Release implements [channel.Slot]. An entry is only given back by a commit,
// so a request without an answer gets an empty one, which the kernel drops.
func (s *slot) Release() {
	s.fill(0, 0)
	s.settle()
}

// Block implements [channel.Slot].
func (s *slot) Block() {
	if s.q.turn.Steal(s.ticket) {
		s.q.replace()
	}
}
