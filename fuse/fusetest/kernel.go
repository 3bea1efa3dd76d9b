// Package fusetest tests FUSE servers without a kernel, and channels with one.
//
// A [Kernel] stands in for Linux: it is a channel on one side and asks what a
// kernel would ask on the other, in this process and without any right. It
// keeps the books that a kernel keeps (lookup references, open handles,
// operations that are not there) and finds answers that a kernel would refuse.
//
//	k := fusetest.NewKernel(fusetest.Options{})
//	s := fuse.NewServerOn(fs, k, nil)
//	go s.Serve()
//	k.Init()
//	e, errno := k.Lookup(1, "hello")
//	...
//	k.Close()
//	s.Wait()
//
// [Run] checks a channel: any, by messages. [Record] and [Replay] keep the
// traffic of a real session and put it to a server again.
package fusetest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

var ne = binary.NativeEndian

// Options says what kernel to play. The zero value is a recent one with
// messages as the device has them.
type Options struct {
	Minor uint32 // protocol 7.Minor; 0 = 45
	Flags uint64 // what INIT offers; 0 = what Linux 6.18 does on a plain mount
	Ring  bool   // messages come as over io_uring: split, with shared buffers
	// MaxPayload is the most data of a message, bytes; 0 = 1 MiB.
	MaxPayload int
}

// LinuxFlags is what Linux 6.18 offers on a plain mount.
const LinuxFlags = 0x7fd<<32 | 0x73fffffb

// Kernel plays Linux. Its methods may be called concurrently.
type Kernel struct {
	opts    Options
	handler channel.Handler
	serving chan struct{} // Serve was called
	started chan struct{} // Start was called
	closed  chan struct{}
	once    sync.Once
	unique  atomic.Uint64

	mu       sync.Mutex
	running  int // requests in the server's hands, on the goroutine that made them
	idle     sync.Cond
	free     []*message
	params   channel.Params
	refs     map[uint64]uint64 // node id -> references
	faults   []string
	notices  []Notice
	onNotify func(Notice) syscall.Errno
}

// A Notice is a notification that the server has sent.
type Notice struct {
	Code wire.NotifyCode
	Body []byte
}

// NewKernel makes a kernel; give it to fuse.NewServerOn.
func NewKernel(o Options) *Kernel {
	if o.Minor == 0 {
		o.Minor = wire.KernelMinorVersion
	}
	if o.Flags == 0 {
		o.Flags = LinuxFlags
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = 1 << 20
	}
	k := &Kernel{
		opts: o, serving: make(chan struct{}), started: make(chan struct{}),
		closed: make(chan struct{}), refs: make(map[uint64]uint64),
	}
	k.idle.L = &k.mu
	k.unique.Store(2)
	return k
}

// Caps is part of channel.Channel.
func (k *Kernel) Caps() channel.Caps {
	return channel.Caps{Transport: "fake", MaxPayload: k.opts.MaxPayload}
}

// Serve is part of channel.Channel: requests are carried out on the goroutines
// that make them.
func (k *Kernel) Serve(h channel.Handler) error {
	k.handler = h
	close(k.serving)
	<-k.closed
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.running > 0 {
		k.idle.Wait()
	}
	return nil
}

// Start is part of channel.Channel.
func (k *Kernel) Start(p channel.Params) error {
	k.mu.Lock()
	k.params = p
	k.mu.Unlock()
	close(k.started)
	return nil
}

// Notify is part of channel.Channel.
func (k *Kernel) Notify(msg []byte) error {
	h, ok := wire.ParseOutHeader(msg)
	if !ok || h.Unique != 0 || h.Error <= 0 {
		k.fault("notification: malformed header %+v", h)
		return syscall.EINVAL
	}
	n := Notice{wire.NotifyCode(h.Error), slices.Clone(msg[wire.OutHeaderSize:])}
	k.mu.Lock()
	k.notices = append(k.notices, n)
	f := k.onNotify
	k.mu.Unlock()
	if f != nil {
		if errno := f(n); errno != 0 {
			return errno
		}
	}
	return nil
}

// OnNotify has f called with each notification, as the kernel would handle it:
// f may block, and its errno is what the server gets.
func (k *Kernel) OnNotify(f func(Notice) syscall.Errno) {
	k.mu.Lock()
	k.onNotify = f
	k.mu.Unlock()
}

// Notices returns the notifications so far.
func (k *Kernel) Notices() []Notice {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.notices)
}

// Close ends the session, as unmounting does. Requests that run are waited
// for by the server's Serve.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.once.Do(func() { close(k.closed) })
	return nil
}

// Abort ends the session, as aborting does.
func (k *Kernel) Abort() error { return k.Close() }

// fault notes what a kernel would not have taken.
func (k *Kernel) fault(format string, args ...any) {
	k.mu.Lock()
	k.faults = append(k.faults, fmt.Sprintf(format, args...))
	k.mu.Unlock()
}

// Faults returns what the server did wrong so far.
func (k *Kernel) Faults() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.faults)
}

// Refs returns how many references the kernel holds, by node id.
func (k *Kernel) Refs() map[uint64]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	refs := make(map[uint64]uint64, len(k.refs))
	for node, n := range k.refs {
		refs[node] = n
	}
	return refs
}

// message is a request under way: the channel's Request and its Slot.
type message struct {
	req     channel.Request
	k       *Kernel
	unique  uint64
	head    [wire.InHeaderSize]byte
	in      []uint64 // 8-aligned room for header and arguments
	payload []uint64
	out     []uint64
	reply   []byte // the body, part of out; valid once done
	errno   syscall.Errno
	done    chan struct{} // of capacity 1
	refuse  syscall.Errno // what Reply gives in place of taking the answer
	silent  bool          // released without an answer
	state   atomic.Int32
}

const (
	lent int32 = iota
	answered
	failed // Reply gave an error; Release must follow
	released
)

// Reply is part of channel.Slot.
func (m *message) Reply(errno syscall.Errno, n int) error {
	if m.refuse != 0 || m.k.over() {
		if !m.state.CompareAndSwap(lent, failed) {
			m.k.fault("request %d was answered twice", m.unique)
		}
		if m.refuse != 0 {
			return m.refuse
		}
		return channel.ErrEnded
	}
	if !m.state.CompareAndSwap(lent, answered) {
		m.k.fault("request %d was answered twice", m.unique)
		return syscall.ENOENT
	}
	m.errno, m.reply = errno, m.req.Out[:n]
	m.done <- struct{}{}
	return nil
}

// Release is part of channel.Slot.
func (m *message) Release() {
	if !m.state.CompareAndSwap(lent, released) && !m.state.CompareAndSwap(failed, released) {
		m.k.fault("request %d was released twice, or after its answer", m.unique)
		return
	}
	m.silent = true
	m.done <- struct{}{}
}

// Block is part of channel.Slot.
func (m *message) Block() {}

func (k *Kernel) over() bool {
	select {
	case <-k.closed:
		return true
	default:
		return false
	}
}

func words(bytes int) []uint64 { return make([]uint64, (bytes+7)/8) }

func asBytes(w []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), len(w)*8)
}

func (k *Kernel) newMessage() *message {
	k.mu.Lock()
	var m *message
	if n := len(k.free); n > 0 {
		m, k.free = k.free[n-1], k.free[:n-1]
	}
	k.mu.Unlock()
	if m != nil {
		m.state.Store(lent)
		m.refuse, m.silent, m.errno, m.reply = 0, false, 0, nil
		return m
	}
	m = &message{k: k, done: make(chan struct{}, 1)}
	size := wire.OutHeaderSize + k.opts.MaxPayload + 4096
	m.in = words(wire.InHeaderSize + channel.MaxArgs + size)
	m.out = words(size)
	m.payload = m.out // as on a ring
	m.req.Slot = m
	return m
}

// fill makes m the message head, args, payload.
func (m *message) fill(head, args, payload []byte, ring bool) {
	b := asBytes(m.in)
	m.unique = ne.Uint64(head[8:])
	copy(b, head)
	m.req.Header = b[:len(head)]
	m.req.Out = asBytes(m.out)
	m.req.Split, m.req.Shared = ring, ring
	body := b[wire.InHeaderSize:]
	if ring {
		for i := copy(body[:channel.MaxArgs], args); i < channel.MaxArgs; i++ {
			body[i] = 0xa5 // what an earlier request left
		}
		m.req.Args = body[:channel.MaxArgs]
		m.req.Payload = asBytes(m.payload)[:copy(asBytes(m.payload), payload)]
		return
	}
	n := copy(body, args)
	n += copy(body[n:], payload)
	m.req.Args, m.req.Payload = body[:n], nil
}

// A Request is one message to a server.
type Request struct {
	Op      wire.Opcode
	Node    uint64
	Unique  uint64 // 0 = the next one
	UID     uint32
	GID     uint32
	PID     uint32
	Args    []byte // fixed arguments
	Payload []byte // names, data, and the extension area
	Ext     int    // bytes at the end of Payload that are the extension area
	Refuse  syscall.Errno
	// Length replaces the header's length; 0 = the right one.
	Length uint32

	plain bool // never comes over a ring
}

// A Reply is what a server answered.
type Reply struct {
	Errno syscall.Errno
	Body  []byte // a copy
	None  bool   // the request was given back without an answer
}

// Call puts r to the server and waits for the answer; after the end it gives
// None and ENODEV.
func (k *Kernel) Call(r *Request) Reply {
	m := k.send(r)
	if m == nil {
		return Reply{None: true, Errno: syscall.ENODEV}
	}
	<-m.done
	reply := Reply{Errno: m.errno, None: m.silent}
	if len(m.reply) > 0 {
		reply.Body = slices.Clone(m.reply)
	}
	k.check(r, reply)
	k.recycle(m)
	return reply
}

// Repeat is Call without the checks, the books and the copy of the answer, for
// measurements: it allocates nothing in the long run.
func (k *Kernel) Repeat(r *Request) syscall.Errno {
	m := k.send(r)
	if m == nil {
		return syscall.ENODEV
	}
	<-m.done
	errno := m.errno
	k.recycle(m)
	return errno
}

// Go puts r to the server and returns at once; the answer comes by the
// channel.
func (k *Kernel) Go(r *Request) <-chan Reply {
	c := make(chan Reply, 1)
	if r.Unique == 0 {
		r.Unique = k.unique.Add(2)
	}
	go func() { c <- k.Call(r) }()
	return c
}

// recycle keeps m for another request; the server's State stays in it.
func (k *Kernel) recycle(m *message) {
	m.reply = nil
	k.mu.Lock()
	k.free = append(k.free, m)
	k.mu.Unlock()
}

// enter counts a request in, unless the session has ended.
func (k *Kernel) enter() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over() {
		return false
	}
	k.running++
	return true
}

// send hands r to the server on this goroutine. It returns nil after the end.
func (k *Kernel) send(r *Request) *message {
	<-k.serving
	if !k.enter() {
		return nil
	}
	if r.Unique == 0 {
		r.Unique = k.unique.Add(2)
	}
	m := k.newMessage()
	m.refuse = r.Refuse
	length := uint32(wire.InHeaderSize + len(r.Args) + len(r.Payload))
	if r.Length != 0 {
		length = r.Length
	}
	wire.AppendInHeader(m.head[:0], wire.InHeader{
		Length: length, Opcode: r.Op, Unique: r.Unique, NodeID: r.Node,
		UID: r.UID, GID: r.GID, PID: r.PID, TotalExtlen: uint16(r.Ext / 8),
	})
	m.fill(m.head[:], r.Args, r.Payload, k.opts.Ring && !r.plain)
	k.handler.Handle(&m.req)
	k.mu.Lock()
	if k.running--; k.running == 0 {
		k.idle.Broadcast()
	}
	k.mu.Unlock()
	return m
}
