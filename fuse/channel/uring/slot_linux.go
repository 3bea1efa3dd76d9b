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
)

// The life of a slot, as far as answering goes; see the same in the device
// channel.
const (
	idle = iota
	inline
	pending
	answered
)

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
}

// addSlots maps n more slots and queues their registration.
func (q *queue) addSlots(n int) error {
	heads := n * sys.PageSize
	mem, err := sys.Map(heads + n*q.size)
	if err != nil {
		return err
	}
	q.mem = append(q.mem, mem)
	for i := range n {
		page := mem[i*sys.PageSize:][:sys.PageSize]
		s := &slot{q: q, index: len(q.slots), head: page[:headerSize:headerSize], vecs: page[vecsAt : vecsAt+32]}
		s.payload = mem[heads+i*q.size:][:q.size:q.size]
		s.req = channel.Request{
			Header: s.head[:channel.HeaderSize:channel.HeaderSize], Args: s.head[argsAt:][:channel.MaxArgs:channel.MaxArgs],
			Out: s.payload, Split: true, Shared: true, Slot: s,
		}
		q.slots = append(q.slots, s)
	}
	q.depth.Store(int32(len(q.slots)))
	return nil
}

func (s *slot) commitID() uint64 { return binary.NativeEndian.Uint64(s.head[commitAt:]) }

// lend prepares the request for the handler. It reports false if the kernel's
// header makes no sense; the answer is then EIO already.
func (s *slot) lend(ticket uint64) bool {
	s.registered = true
	n := int(binary.NativeEndian.Uint32(s.head[payloadAt:]))
	if n > len(s.payload) {
		s.fill(unix.EIO, 0)
		return false
	}
	s.trim()
	s.used = n
	s.ticket = ticket
	s.req.Payload = s.payload[:n:n]
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
		sys.Discard(s.payload[keepPayload:])
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
