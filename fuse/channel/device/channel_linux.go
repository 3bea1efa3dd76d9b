package device

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/channel/internal/stall"
	"github.com/sluicefs/sluice/internal/sys"
)

var (
	_ channel.Channel      = (*Channel)(nil)
	_ channel.Backer       = (*Channel)(nil)
	_ channel.Transferable = (*Channel)(nil)
)

// lookEvery is how often the monitor looks for readers that do not come back:
// the delay that an undeclared block causes, once for each burst of them.
const lookEvery = 4 * time.Millisecond

// Channel is a session on /dev/fuse.
type Channel struct {
	fd     int
	opts   Options
	device bool // writes to fd do not sleep; those to a socket do

	handler channel.Handler
	monitor *stall.Monitor

	stop    atomic.Bool  // readers leave instead of reading again
	surplus atomic.Int32 // readers that should leave; changed with mu held

	mu      sync.Mutex
	freed   sync.Cond // a frame came back, or the session ends
	spare   *frame
	nspare  int
	live    int // frames that exist
	lent    int // frames that a reader or a handler has
	readers map[*reader]struct{}
	clones  []int
	started bool
	serving bool
	err     error
	ended   chan struct{} // closed by end
	isEnded bool
	closed  bool // descriptors closed
	burst   int  // readers added by the last look that found stuck ones
	full    int  // looks in a row at which every reader was busy
	slack   int  // looks in a row at which several readers waited
	calm    int  // looks in a row that found no stuck reader

	dropped atomic.Uint64 // messages too short to be one
	pace    atomic.Int64  // see Pace
}

// New makes a channel of fd, a descriptor of /dev/fuse (or a SOCK_SEQPACKET
// socket whose other end plays the kernel). The channel closes fd when the
// session has ended.
func New(fd int, opts Options) (*Channel, error) {
	opts.fill()
	c := &Channel{fd: fd, opts: opts, readers: map[*reader]struct{}{}, ended: make(chan struct{})}
	c.freed.L = &c.mu
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("FUSE descriptor %d: %w", fd, err)
	}
	c.device = st.Mode&unix.S_IFMT == unix.S_IFCHR
	return c, nil
}

// Caps implements [channel.Channel].
func (c *Channel) Caps() channel.Caps {
	caps := channel.Caps{Transport: "device", MaxPayload: c.opts.MaxPayload, Backing: true, Why: map[string]string{
		"splice": "copying is faster: a reply of 128 KiB by splice took 4 times the processor time",
	}}
	if !c.opts.Clone {
		caps.Why["clone_fd"] = "not asked for"
	}
	return caps
}

// Serve implements [channel.Channel].
func (c *Channel) Serve(h channel.Handler) error {
	c.mu.Lock()
	if c.serving {
		c.mu.Unlock()
		return fmt.Errorf("serve: %w", unix.EALREADY)
	}
	c.serving = true
	c.handler = h
	c.monitor = stall.Start(lookEvery, c.look)
	if c.started {
		c.spawn(c.opts.Readers)
	} else {
		c.spawn(1) // INIT comes alone; the rest start after it
	}
	c.mu.Unlock()

	<-c.ended
	c.leave()
	c.monitor.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release()
	return c.err
}

// leave makes all readers leave, and waits for them. The monitor takes those
// off the list that are stuck in a handler.
func (c *Channel) leave() {
	c.stop.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed.Broadcast()
	for pause := time.Millisecond; len(c.readers) > 0; pause = min(2*pause, 50*time.Millisecond) {
		c.monitor.Wake()
		fds := append([]int{c.fd}, c.clones...)
		c.mu.Unlock()
		time.Sleep(pause)
		// Best effort: those that the end of the session has woken need no
		// signal, and a reader on its way to sleep is met the next time.
		_, _ = sys.InterruptReaders(fds...)
		c.mu.Lock()
	}
}

// end ends the session; the first error stays.
func (c *Channel) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop.Store(true)
	if !c.isEnded {
		c.isEnded = true
		c.err = err
		close(c.ended)
		if !c.serving {
			c.release()
		}
	}
}

// Close implements [channel.Channel].
func (c *Channel) Close() error {
	c.end(nil)
	return nil
}

// Start implements [channel.Channel].
func (c *Channel) Start(channel.Params) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return fmt.Errorf("start: %w", unix.EALREADY)
	}
	c.started = true
	if c.opts.Clone {
		for len(c.clones) < c.opts.Readers-1 {
			fd, err := sys.CloneFUSE(c.fd)
			if err != nil {
				break // one descriptor serves as well
			}
			c.clones = append(c.clones, fd)
		}
	}
	if c.serving && !c.stop.Load() {
		c.spawn(c.opts.Readers - len(c.readers))
	}
	return nil
}

// spawn starts n readers. mu is held.
func (c *Channel) spawn(n int) {
	for range n {
		r := &reader{c: c, fd: c.fd}
		if i := len(c.readers); i > 0 && len(c.clones) > 0 {
			r.fd = c.clones[(i-1)%len(c.clones)]
		}
		c.readers[r] = struct{}{}
		go r.run()
	}
}

// look is the monitor's scan: it replaces readers that are stuck in a handler,
// adds one while all are busy, and lets some go while several wait.
func (c *Channel) look() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var active bool
	var idle, busy int
	var stuck []*reader
	for r := range c.readers {
		ticket, moved, inside, same := r.turn.Look()
		active = active || moved || inside
		switch {
		case same:
			r.suspect = ticket
			stuck = append(stuck, r)
		case inside:
			busy++
		default:
			idle++
		}
	}
	if c.stop.Load() {
		c.steal(stuck)
		return active
	}
	if idle > 0 {
		// Somebody waits for messages, so nothing is held up. On a loaded
		// machine most of those that seem stuck only wait for a processor.
		c.adapt(0, idle, busy+len(stuck))
		return active
	}
	c.adapt(c.steal(stuck), idle, busy)
	return active
}

// steal takes the turns of suspects that are still in the same handler, and
// returns how many. mu is held.
func (c *Channel) steal(suspects []*reader) (n int) {
	for _, r := range suspects {
		if r.turn.Steal(r.suspect) {
			delete(c.readers, r)
			n++
		}
	}
	return n
}

// adapt changes the number of readers after a look. mu is held.
func (c *Channel) adapt(stuck, idle, busy int) {
	base := c.opts.Readers
	if stuck > 0 {
		// Where handlers block, the next ones will too: double the readers
		// that replace them for as long as it goes on.
		if c.calm > 4 {
			c.burst = 0
		}
		c.burst = min(max(2*c.burst, stuck), maxWaiting)
		c.spawn(max(min(c.burst, maxWaiting-idle), base-idle-busy, 0))
		c.full, c.slack, c.calm = 0, 0, 0
		return
	}
	c.calm++
	switch {
	case idle == 0 && busy > 0:
		c.slack = 0
		if c.full++; c.full >= 4 && busy < gomaxprocs() {
			c.full = 0
			c.spawn(1)
		}
	case idle > 1 && idle+busy > base:
		c.full = 0
		if c.slack++; c.slack >= 16 {
			c.slack = 0
			c.surplus.Store(int32(idle + busy - base))
		}
	default:
		c.full, c.slack = 0, 0
	}
}

// replace puts a reader in the place of r, whose handler is about to block.
func (c *Channel) replace(r *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
	if !c.stop.Load() && len(c.readers) < c.opts.Readers {
		c.spawn(1)
	}
}

// release closes descriptors and frees frames once the session has ended and
// nobody has a frame. mu is held.
func (c *Channel) release() {
	if !c.isEnded || c.lent > 0 || len(c.readers) > 0 || c.closed {
		return
	}
	c.closed = true
	for f := c.spare; f != nil; f = f.next {
		f.unmap()
	}
	c.spare = nil
	unix.Close(c.fd)
	for _, fd := range c.clones {
		unix.Close(fd)
	}
}

// Notify implements [channel.Channel].
func (c *Channel) Notify(msg []byte) error {
	c.mu.Lock()
	if c.isEnded {
		c.mu.Unlock()
		return channel.ErrEnded
	}
	c.lent++ // keeps the descriptor open
	c.mu.Unlock()
	defer c.giveBack(nil)
	for {
		_, errno := sys.Write(c.fd, msg)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.ENODEV, unix.ECONNABORTED, unix.EPIPE:
			return channel.ErrEnded
		default:
			return errno
		}
	}
}

// hold keeps the descriptor open until giveBack(nil); false if it is closed,
// when its number may be that of another file, or of another session.
func (c *Channel) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.lent++
	return true
}

// BackingOpen implements [channel.Backer].
func (c *Channel) BackingOpen(fd int, flags uint32) (int32, error) {
	if !c.hold() {
		return 0, channel.ErrEnded
	}
	defer c.giveBack(nil)
	return sys.BackingOpen(c.fd, fd, flags)
}

// BackingClose implements [channel.Backer].
func (c *Channel) BackingClose(id int32) error {
	if !c.hold() {
		return nil
	}
	defer c.giveBack(nil)
	return sys.BackingClose(c.fd, id)
}

// Pause implements [channel.Transferable]. It returns when every reader has
// left read(2); requests that handlers still have can be answered.
func (c *Channel) Pause() error {
	c.leave()
	return nil
}

// Files implements [channel.Transferable].
func (c *Channel) Files() ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, channel.ErrEnded
	}
	return sys.DuplicateFDs(append([]int{c.fd}, c.clones...)...)
}

// describeVersion is the first byte of what Describe gives.
const describeVersion = 1

// Describe implements [channel.Transferable]: version, one byte; number of
// descriptors, 4 bytes; largest payload, 8 bytes; little endian.
func (c *Channel) Describe() ([]byte, error) {
	b := []byte{describeVersion}
	c.mu.Lock()
	n := 1 + len(c.clones)
	c.mu.Unlock()
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	return binary.LittleEndian.AppendUint64(b, uint64(c.opts.MaxPayload)), nil
}

// Resume makes a channel that goes on with a session of another process: files
// and desc are what its Files and Describe gave. Call Start before Serve. The
// channel closes files when the session has ended.
func Resume(files []int, desc []byte, opts Options) (*Channel, error) {
	if len(desc) != 13 || desc[0] != describeVersion {
		return nil, fmt.Errorf("resume device: %d bytes of state, not of version %d", len(desc), describeVersion)
	}
	if n := binary.LittleEndian.Uint32(desc[1:]); int(n) != len(files) || n == 0 {
		return nil, fmt.Errorf("resume device: %d descriptors, the state has %d", len(files), n)
	}
	payload := binary.LittleEndian.Uint64(desc[5:])
	if payload < 4096 || payload > 1<<30 {
		return nil, fmt.Errorf("resume device: payload of %d bytes", payload)
	}
	opts.MaxPayload = int(payload)
	c, err := New(files[0], opts)
	if err != nil {
		return nil, err
	}
	c.clones = append(c.clones, files[1:]...)
	// Requests may wait on any of the descriptors; each needs a reader.
	c.opts.Readers = max(c.opts.Readers, len(files))
	return c, nil
}

// Pace makes readers pause for d after each message that only forgets, so that
// more of them come as one (BATCH_FORGET). It is for a session whose other
// requests do not come by this channel; its INTERRUPTs are late by d at most.
func (c *Channel) Pace(d time.Duration) { c.pace.Store(int64(d)) }

// Dropped is the number of messages that were too short to have a header.
func (c *Channel) Dropped() uint64 { return c.dropped.Load() }

// reader is one goroutine in read(2).
type reader struct {
	c       *Channel
	fd      int
	turn    stall.Turn
	suspect uint64 // ticket that seemed stuck at the last look
}

func (r *reader) run() {
	c := r.c
	f := c.take()
	for f != nil && !c.stop.Load() && !c.leaves(r) {
		n, ok := r.receive(f)
		if !ok {
			break
		}
		if n < channel.HeaderSize {
			c.dropped.Add(1)
			continue
		}
		ticket := r.turn.Begin()
		f.lend(r, ticket, n)
		forget := f.forgets()
		c.monitor.Wake()
		c.handler.Handle(&f.req)
		mine := r.turn.End(ticket)
		if !f.back() {
			f = nil // the handler keeps it
		}
		if !mine {
			// Replaced: this goroutine is no longer a reader.
			if f != nil {
				c.giveBack(f)
			}
			return
		}
		if f == nil {
			f = c.take()
		}
		if forget {
			if d := c.pace.Load(); d > 0 {
				time.Sleep(time.Duration(d))
			}
		}
	}
	if f != nil {
		c.giveBack(f)
	}
	c.mu.Lock()
	delete(c.readers, r)
	c.release()
	c.mu.Unlock()
}

// leaves reports whether r is one too many, and takes it off the list then. The
// others may have become fewer since the last look, by handlers that block.
func (c *Channel) leaves(r *reader) bool {
	if c.surplus.Load() <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.readers) <= c.opts.Readers || c.surplus.Load() <= 0 {
		c.surplus.Store(0)
		return false
	}
	c.surplus.Add(-1)
	delete(c.readers, r)
	return true
}

// receive reads one message. It reports false when the session or this channel
// has ended.
func (r *reader) receive(f *frame) (int, bool) {
	failures := 0
	for {
		n, errno := sys.Read(r.fd, f.in[messageAt:])
		switch errno {
		case 0:
			if n == 0 { // the other end of a socket has closed
				r.c.end(nil)
				return 0, false
			}
			return n, true
		case unix.EINTR:
			if r.c.stop.Load() {
				return 0, false
			}
		case unix.ENOENT: // the request went away while it was copied
		case unix.EAGAIN: // somebody made the descriptor non-blocking
			if !r.poll() {
				return 0, false
			}
		case unix.ENODEV: // unmounted or aborted
			r.c.end(nil)
			return 0, false
		case unix.ECONNABORTED, unix.ECONNRESET:
			r.c.end(fmt.Errorf("read /dev/fuse: session was aborted: %w", errno))
			return 0, false
		case unix.EIO, unix.EFAULT, unix.ENOMEM:
			// The kernel failed to copy one message and has answered it.
			if failures++; failures < 1000 {
				continue
			}
			fallthrough
		default:
			r.c.end(fmt.Errorf("read /dev/fuse: %w", error(errno)))
			return 0, false
		}
	}
}

// poll waits until a non-blocking descriptor may be read. The time-out is for
// seeing stop.
func (r *reader) poll() bool {
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	for !r.c.stop.Load() {
		if n, err := unix.Poll(fds, 100); n > 0 || err != nil && err != unix.EINTR {
			return true
		}
	}
	return false
}
