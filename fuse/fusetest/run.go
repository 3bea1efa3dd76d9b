package fusetest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A Link is a channel under test with the other end of it, which plays the
// kernel by whole messages.
type Link struct {
	Channel channel.Channel
	// Send sends a request: fuse_in_header and what follows.
	Send func(msg []byte) error
	// Receive returns the next reply or notification: fuse_out_header and
	// what follows. It fails once the link is closed.
	Receive func() ([]byte, error)
	// Hangup ends the session from the kernel's side.
	Hangup func()
	// MaxPayload is the most data of a message, bytes.
	MaxPayload int
}

// watchdog ends what would hang.
const watchdog = 60 * time.Second

// Run checks that a channel keeps the promises of package channel: start makes
// a new link for each test.
func Run(t *testing.T, start func(t *testing.T) *Link) {
	for name, f := range map[string]func(*testing.T, *conversation){
		"init":       testInit,
		"echo":       testEcho,
		"sizes":      testSizes,
		"errors":     testErrors,
		"unanswered": testUnanswered,
		"concurrent": testConcurrent,
		"late":       testLate,
		"notify":     testNotify,
		"close":      testClose,
		"oversized":  testOversized,
		"malformed":  testMalformed,
		"hangup":     testHangup,
	} {
		t.Run(name, func(t *testing.T) { converse(t, start(t), f) })
	}
}

// conversation is a link with a handler that answers as tests want.
type conversation struct {
	*Link
	t       *testing.T
	handle  atomic.Pointer[func(*channel.Request)]
	ended   chan error
	unique  atomic.Uint64
	mu      sync.Mutex
	waiting map[uint64]chan []byte
	notices chan []byte
}

// Handle is part of channel.Handler.
func (c *conversation) Handle(m *channel.Request) {
	if wire.Opcode(ne.Uint32(m.Header[4:])) == wire.OpInit {
		m.Slot.Reply(0, copy(m.Out, make([]byte, 64)))
		p := channel.Params{Minor: 45, MaxWrite: uint32(c.MaxPayload), MaxPages: uint32(c.MaxPayload / 4096), MaxBackground: 12}
		if err := c.Channel.Start(p); err != nil {
			c.t.Errorf("Start: %v", err)
		}
		return
	}
	(*c.handle.Load())(m)
}

func converse(t *testing.T, l *Link, f func(*testing.T, *conversation)) {
	c := &conversation{
		Link: l, t: t, ended: make(chan error, 1),
		waiting: make(map[uint64]chan []byte), notices: make(chan []byte, 64),
	}
	echo := func(m *channel.Request) { m.Slot.Reply(0, copy(m.Out, body(m))) }
	c.handle.Store(&echo)
	go func() { c.ended <- l.Channel.Serve(c) }()
	received := make(chan struct{})
	go func() { defer close(received); c.receive() }()
	if r := c.call(wire.OpInit, make([]byte, 64)); len(r) != 80 {
		t.Errorf("INIT was answered with %d bytes", len(r))
	}
	f(t, c)
	l.Hangup()
	select {
	case err := <-c.ended:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(watchdog):
		t.Error("Serve does not end")
	}
	if err := l.Channel.Notify(notification(1)); err == nil {
		t.Error("a notification after the end was accepted")
	}
	if err := l.Channel.Close(); err != nil {
		t.Errorf("Close after the end: %v", err)
	}
	<-received
}

// body is what follows the header of m.
func body(m *channel.Request) []byte {
	if !m.Split {
		return m.Args
	}
	l, _ := wire.Opcode(ne.Uint32(m.Header[4:])).Layout()
	return append(bytes.Clone(m.Args[:l.In]), m.Payload...)
}

// receive hands replies to those who wait for them.
func (c *conversation) receive() {
	for {
		b, err := c.Receive()
		if err != nil {
			return
		}
		h, ok := wire.ParseOutHeader(b)
		if !ok {
			c.t.Errorf("reply of %d bytes says that it has %d", len(b), h.Length)
			continue
		}
		if h.Unique == 0 {
			c.notices <- b
			continue
		}
		c.mu.Lock()
		w := c.waiting[h.Unique]
		delete(c.waiting, h.Unique)
		c.mu.Unlock()
		if w == nil {
			c.t.Errorf("reply to %d, which nobody asked", h.Unique)
			continue
		}
		w <- b
	}
}

// begin sends a request; its reply comes by the channel.
func (c *conversation) begin(op wire.Opcode, body []byte) <-chan []byte {
	unique := c.unique.Add(2)
	w := make(chan []byte, 1)
	c.mu.Lock()
	c.waiting[unique] = w
	c.mu.Unlock()
	h := wire.InHeader{Length: uint32(wire.InHeaderSize + len(body)), Opcode: op, Unique: unique, NodeID: 1}
	if err := c.Send(append(wire.AppendInHeader(nil, h), body...)); err != nil {
		c.t.Errorf("send: %v", err)
	}
	return w
}

func (c *conversation) wait(w <-chan []byte) []byte {
	select {
	case b := <-w:
		return b
	case <-time.After(watchdog):
		c.t.Error("no reply")
		return nil
	}
}

func (c *conversation) call(op wire.Opcode, body []byte) []byte { return c.wait(c.begin(op, body)) }

func testInit(t *testing.T, c *conversation) {
	if caps := c.Channel.Caps(); caps.Transport == "" || caps.MaxPayload < c.MaxPayload {
		t.Errorf("%+v, payload of %d promised", caps, c.MaxPayload)
	}
}

func testEcho(t *testing.T, c *conversation) {
	for range 100 {
		if r := c.call(wire.OpGetattr, []byte("sixteen bytes ..")); !bytes.Equal(r[16:], []byte("sixteen bytes ..")) {
			t.Fatalf("%q", r)
		}
	}
}

// testSizes carries data of all sizes in both directions.
func testSizes(t *testing.T, c *conversation) {
	for _, n := range []int{0, 1, 7, 8, 4055, 4056, 4096, 4097, 8191, c.MaxPayload / 2, c.MaxPayload} {
		data := make([]byte, 40+n)
		for i := range data {
			data[i] = byte(i ^ i>>8)
		}
		want := data[:min(len(data), c.MaxPayload)]
		cut := func(m *channel.Request) {
			b := body(m)
			m.Slot.Reply(0, copy(m.Out[:min(len(b), c.MaxPayload)], b))
		}
		c.handle.Store(&cut)
		if r := c.call(wire.OpWrite, data); len(r) < 16 || !bytes.Equal(r[16:], want) {
			t.Errorf("%d bytes of data came back as %d", n, len(r)-16)
		}
	}
}

func testErrors(t *testing.T, c *conversation) {
	f := func(m *channel.Request) { m.Slot.Reply(syscall.ENOENT, 0) }
	c.handle.Store(&f)
	if h, ok := wire.ParseOutHeader(c.call(wire.OpGetattr, make([]byte, 16))); !ok || h.Error != -int32(syscall.ENOENT) {
		t.Errorf("%+v", h)
	}
}

// testUnanswered releases requests, after which others are served.
func testUnanswered(t *testing.T, c *conversation) {
	var released atomic.Int64
	f := func(m *channel.Request) {
		if wire.Opcode(ne.Uint32(m.Header[4:])) == wire.OpForget {
			m.Slot.Release()
			released.Add(1)
			return
		}
		m.Slot.Reply(0, 0)
	}
	c.handle.Store(&f)
	for range 100 {
		c.begin(wire.OpForget, make([]byte, 8))
	}
	for until := time.Now().Add(watchdog); released.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d of 100 arrived", released.Load())
		}
	}
	c.call(wire.OpGetattr, make([]byte, 16))
}

func testConcurrent(t *testing.T, c *conversation) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				data := []byte(fmt.Sprintf("%016d", i*1000+j))
				if r := c.call(wire.OpGetattr, data); len(r) < 16 || !bytes.Equal(r[16:], data) {
					t.Errorf("%q came back as %q", data, r)
					return
				}
			}
		})
	}
	wg.Wait()
}

// testLate answers from another goroutine, in the wrong order, while handlers
// block.
func testLate(t *testing.T, c *conversation) {
	const n = 64
	kept := make(chan *channel.Request, n)
	goOn := make(chan struct{})
	f := func(m *channel.Request) {
		kept <- m
		if ne.Uint64(m.Header[8:])%4 == 0 {
			m.Slot.Block()
			<-goOn
		}
	}
	c.handle.Store(&f)
	var replies []<-chan []byte
	for range n {
		replies = append(replies, c.begin(wire.OpGetattr, make([]byte, 16)))
	}
	var all []*channel.Request
	for range n {
		select {
		case m := <-kept:
			all = append(all, m)
		case <-time.After(watchdog):
			t.Fatalf("%d of %d requests arrive while handlers block", len(all), n)
		}
	}
	for i := range all {
		m := all[len(all)-1-i]
		m.Slot.Reply(0, copy(m.Out, m.Header[8:16]))
	}
	close(goOn)
	for _, w := range replies {
		if r := c.wait(w); len(r) != 24 || !bytes.Equal(r[8:16], r[16:24]) {
			t.Errorf("%q is not the answer to its request", r)
		}
	}
}

func notification(kh uint64) []byte {
	b := wire.AppendOutHeader(nil, wire.OutHeader{Length: 24, Error: int32(wire.NotifyPoll)})
	return ne.AppendUint64(b, kh)
}

func testNotify(t *testing.T, c *conversation) {
	for i := range uint64(10) {
		if err := c.Channel.Notify(notification(i)); err != nil {
			t.Fatal(err)
		}
		select {
		case b := <-c.notices:
			if !bytes.Equal(b, notification(i)) {
				t.Errorf("%v", b)
			}
		case <-time.After(watchdog):
			t.Fatal("no notification")
		}
	}
}

// testClose closes while a handler runs, whose answer then has nowhere to go.
func testClose(t *testing.T, c *conversation) {
	kept := make(chan *channel.Request, 1)
	f := func(m *channel.Request) { kept <- m }
	c.handle.Store(&f)
	c.begin(wire.OpGetattr, make([]byte, 16))
	var m *channel.Request
	select {
	case m = <-kept:
	case <-time.After(watchdog):
		t.Fatal("no request")
	}
	for range 2 {
		if err := c.Channel.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := m.Slot.Reply(0, 16); err != nil {
		m.Slot.Release()
	}
}

// testOversized answers with more than there is room for: the caller gets EIO,
// nobody reads beyond the room, and the session goes on.
func testOversized(t *testing.T, c *conversation) {
	for _, n := range []func(room int) int{
		func(room int) int { return room + 1 }, func(int) int { return 1 << 40 }, func(int) int { return -1 },
	} {
		f := func(m *channel.Request) {
			if err := m.Slot.Reply(0, n(len(m.Out))); err != nil {
				m.Slot.Release()
			}
		}
		c.handle.Store(&f)
		if h, ok := wire.ParseOutHeader(c.call(wire.OpGetattr, make([]byte, 16))); !ok || h.Error != -int32(syscall.EIO) {
			t.Errorf("%+v, want EIO", h)
		}
	}
}

// testMalformed sends messages that are no requests: those without a header are
// dropped, what a header says of the length is the handler's to judge, and the
// session goes on.
func testMalformed(t *testing.T, c *conversation) {
	for _, n := range []int{1, 16, 39} {
		if err := c.Send(make([]byte, n)); err != nil {
			t.Errorf("send %d bytes: %v", n, err)
		}
	}
	seen := make(chan int, 8)
	f := func(m *channel.Request) {
		seen <- len(m.Header) + len(m.Args) + len(m.Payload)
		m.Slot.Reply(syscall.EIO, 0)
	}
	c.handle.Store(&f)
	for _, length := range []uint32{0, 39, 41, 1<<32 - 1} {
		unique := c.unique.Add(2)
		w := make(chan []byte, 1)
		c.mu.Lock()
		c.waiting[unique] = w
		c.mu.Unlock()
		h := wire.InHeader{Length: length, Opcode: wire.OpGetattr, Unique: unique, NodeID: 1}
		if err := c.Send(append(wire.AppendInHeader(nil, h), make([]byte, 16)...)); err != nil {
			t.Errorf("send: %v", err)
		}
		c.wait(w)
		if n := <-seen; n < wire.InHeaderSize+16 {
			t.Errorf("a message of %d bytes that says %d was handed on with %d", wire.InHeaderSize+16, length, n)
		}
	}
}

// testHangup ends the session while handlers have requests: Serve ends, and
// their answers, which come later, harm nothing.
func testHangup(t *testing.T, c *conversation) {
	const n = 8
	kept := make(chan *channel.Request, n)
	f := func(m *channel.Request) { kept <- m }
	c.handle.Store(&f)
	for range n {
		c.begin(wire.OpGetattr, make([]byte, 16))
	}
	var all []*channel.Request
	for range n {
		select {
		case m := <-kept:
			all = append(all, m)
		case <-time.After(watchdog):
			t.Fatalf("%d of %d requests arrive", len(all), n)
		}
	}
	c.Hangup()
	for i, m := range all {
		if i%2 == 0 {
			m.Slot.Release()
		} else if m.Slot.Reply(0, 16) != nil {
			m.Slot.Release()
		}
	}
}
