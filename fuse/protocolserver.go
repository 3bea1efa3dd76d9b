package fuse

import (
	"sync"
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A ProtocolServer carries out requests that somebody else receives: a
// transport of a program's own hands them over as bytes. A transport with
// threads of its own is better written as a [channel.Channel] for
// [NewServerOn].
type ProtocolServer struct {
	notifications
	ch *handChannel
	s  *Server
}

// NewProtocolServer makes a server for fs. opts may be nil; what it says about
// mounting is ignored.
func NewProtocolServer(fs RawFileSystem, opts *MountOptions) *ProtocolServer {
	ch := &handChannel{payload: DefaultMaxWrite}
	if opts != nil && opts.MaxWrite > 0 {
		ch.payload = opts.MaxWrite
	}
	s := NewServerOn(fs, ch, opts)
	return &ProtocolServer{notifications: s.notifications, ch: ch, s: s}
}

// HandleRequest carries out the request whose bytes are in, one slice after
// the other, and puts the answer, header included, into out. It returns the
// number of bytes written, which is 0 for requests that have no answer. The
// status is EINVAL if in is no request, and ERANGE if out is too small for the
// answer; other errors are in the answer. Calls may be concurrent. The
// notifications of a ProtocolServer are refused: its transport has no way for
// them.
func (p *ProtocolServer) HandleRequest(in [][]byte, out [][]byte) (int, Status) {
	m := p.ch.get(total(out))
	defer p.ch.put(m)
	b := m.in[:0]
	for _, part := range in {
		b = append(b, part...)
	}
	m.in = b
	if len(b) < wire.InHeaderSize {
		return 0, EINVAL
	}
	aligned := m.align(b)
	m.req.Header, m.req.Args = aligned[:wire.InHeaderSize], aligned[wire.InHeaderSize:len(b)]
	p.s.e.Handle(&m.req)
	<-m.done
	if m.released {
		return 0, OK
	}
	return m.copyTo(out, nativeEndian.Uint64(b[8:]))
}

func total(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// handChannel is a channel whose messages are handed over by calls.
type handChannel struct {
	payload int
	pool    sync.Pool
}

func (c *handChannel) Caps() channel.Caps {
	return channel.Caps{Transport: "calls", MaxPayload: c.payload}
}
func (c *handChannel) Serve(channel.Handler) error { return channel.ErrUnsupported }
func (c *handChannel) Start(channel.Params) error  { return nil }
func (c *handChannel) Notify([]byte) error         { return syscall.ENOSYS }
func (c *handChannel) Close() error                { return nil }

// handMessage is one call.
type handMessage struct {
	req      channel.Request
	in       []byte
	words    []uint64 // aligned copy of in
	out      []uint64
	errno    syscall.Errno
	n        int
	released bool
	done     chan struct{} // of capacity 1
}

// get returns a message with room for an answer of n bytes.
func (c *handChannel) get(n int) *handMessage {
	m, _ := c.pool.Get().(*handMessage)
	if m == nil {
		m = &handMessage{done: make(chan struct{}, 1)}
		m.req.Slot = m
	}
	n = min(max(n-wire.OutHeaderSize, minOut), c.payload+minOut)
	if len(m.out)*8 < n {
		m.out = make([]uint64, (n+7)/8)
	}
	m.req.Out = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.out))), n)
	m.errno, m.n, m.released = 0, 0, false
	return m
}

func (c *handChannel) put(m *handMessage) { c.pool.Put(m) }

// align copies b to where structs can be laid over it.
func (m *handMessage) align(b []byte) []byte {
	if len(m.words)*8 < len(b) {
		m.words = make([]uint64, (len(b)+7)/8)
	}
	a := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.words))), len(m.words)*8)
	copy(a, b)
	return a
}

// Reply is part of channel.Slot.
func (m *handMessage) Reply(errno syscall.Errno, n int) error {
	m.errno, m.n = errno, n
	m.done <- struct{}{}
	return nil
}

// Release is part of channel.Slot.
func (m *handMessage) Release() {
	m.released = true
	m.done <- struct{}{}
}

// Block is part of channel.Slot.
func (m *handMessage) Block() {}

// copyTo writes the answer to out.
func (m *handMessage) copyTo(out [][]byte, unique uint64) (int, Status) {
	size := wire.OutHeaderSize + m.n
	if size > total(out) {
		return 0, ERANGE
	}
	head := wire.AppendOutHeader(nil, wire.OutHeader{Length: uint32(size), Error: -int32(m.errno), Unique: unique})
	at := 0 // bytes of out[0] that are written
	for _, part := range [][]byte{head, m.req.Out[:m.n]} {
		for len(part) > 0 {
			if at == len(out[0]) {
				out, at = out[1:], 0
				continue
			}
			n := copy(out[0][at:], part)
			part, at = part[n:], at+n
		}
	}
	return size, OK
}
