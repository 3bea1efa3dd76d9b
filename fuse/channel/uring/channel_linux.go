package uring

import (
	"fmt"
	"maps"
	"os"
	"strings"
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

const (
	// overIOURing is FUSE_OVER_IO_URING, an INIT flag.
	overIOURing = 1 << 41

	// Commands of include/uapi/linux/fuse.h, enum fuse_uring_cmd.
	cmdRegister = 1
	cmdCommit   = 2 // commit and fetch

	// parameter is where an administrator turns the transport on.
	parameter = "/sys/module/fuse/parameters/enable_uring"

	// runningLooks is for how many looks an owner may be in one handler without
	// sleeping.
	runningLooks = 25

	// forgetPace is how long FORGETs may gather: a wake-up of the device's
	// reader costs more than all else about one.
	forgetPace = time.Millisecond

	// lookEvery is how often the monitor looks for owners that do not come
	// back.
	lookEvery = 4 * time.Millisecond
)

// Probe says why this kernel has no FUSE over io_uring, or "".
func Probe() string {
	b, err := os.ReadFile(parameter)
	if os.IsNotExist(err) {
		return "the kernel has no FUSE over io_uring (Linux 6.14), or the module fuse is not loaded"
	}
	if err != nil {
		return err.Error()
	}
	if v := strings.TrimSpace(string(b)); v != "Y" && v != "1" {
		return "switched off: echo Y > " + parameter
	}
	r, err := sys.NewRing(1)
	if err != nil {
		return err.Error() // sysctl kernel.io_uring_disabled, seccomp, a limit
	}
	r.Close()
	return ""
}

// Channel is a session over io_uring and, beside it, the device.
type Channel struct {
	dev  channel.Channel
	fd   int // a duplicate of the device's, for the rings
	opts Options

	handler channel.Handler
	monitor *stall.Monitor
	queues  []*queue
	stop    atomic.Bool  // owners leave
	stopped atomic.Bool  // all have left
	out     atomic.Int64 // requests and answers that no owner has
	freed   atomic.Bool

	pausing  atomic.Bool // requests and answers are left to the successor
	maxLost  int         // threads of a queue that handlers may keep
	resumed  bool        // the slots are those of a predecessor
	unshared string      // why there is no region

	sharing sync.Mutex // guards ties, and region's being closed; a leaf
	ties    [2]int     // our socket and the successor's, if there are any

	mu     sync.Mutex
	why    string          // why the rings are not in use
	begun  bool            // the rings are set up
	agreed *channel.Params // Start came before Serve
	region *region         // nil: each queue has memory of its own
}

// New makes a channel that serves the session of fd over io_uring and dev, a
// channel on the same session. It takes a duplicate of fd. It fails if this
// kernel cannot do it; [Probe] says why beforehand.
func New(dev channel.Channel, fd int, opts Options) (*Channel, error) {
	if why := Probe(); why != "" {
		return nil, fmt.Errorf("FUSE over io_uring: %s", why)
	}
	cpus, err := sys.PossibleCPUs()
	if err != nil {
		return nil, fmt.Errorf("FUSE over io_uring: %w", err)
	}
	opts.fill(cpus)
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("FUSE over io_uring: duplicate descriptor %d: %w", fd, err)
	}
	return &Channel{dev: dev, fd: dup, opts: opts, maxLost: max(2, min(8, 64/cpus))}, nil
}

// Caps implements [channel.Channel].
func (c *Channel) Caps() channel.Caps {
	caps := c.dev.Caps()
	caps.Why = maps.Clone(caps.Why)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != "" {
		if caps.Why == nil {
			caps.Why = map[string]string{}
		}
		caps.Why["io_uring"] = c.why
		return caps
	}
	if c.unshared != "" {
		if caps.Why == nil {
			caps.Why = map[string]string{}
		}
		caps.Why["take-over"] = c.unshared
	}
	caps.Transport = "io_uring"
	caps.InitFlags |= overIOURing
	return caps
}

// Serve implements [channel.Channel].
func (c *Channel) Serve(h channel.Handler) error {
	c.mu.Lock()
	c.handler = h
	if c.agreed != nil {
		if err := c.begin(*c.agreed); err != nil {
			c.mu.Unlock()
			return fmt.Errorf("FUSE over io_uring: %w", err)
		}
	}
	c.mu.Unlock()
	err := c.dev.Serve(h) // ends with the session
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	c.closeFD()
	return err
}

// end stops the owners and frees what nobody has any more. mu is held.
func (c *Channel) end() {
	c.stop.Store(true)
	for _, q := range c.queues {
		q.rouse()
	}
	for _, q := range c.queues {
		if c.begun {
			<-q.left
			q.idlers.Wait()
		}
	}
	if c.begun {
		c.monitor.Stop()
	}
	for _, q := range c.queues {
		q.ring.Close()
	}
	c.stopped.Store(true)
	for _, q := range c.queues {
		q.abandonLate()
	}
	if c.out.Load() == 0 {
		c.free()
	}
}

// came counts a request back that was lent out when its owner left.
func (c *Channel) came(n int64) {
	if c.out.Add(-n) == 0 && c.stopped.Load() {
		c.free()
	}
}

// free unmaps all memory, once.
func (c *Channel) free() {
	if c.freed.CompareAndSwap(false, true) {
		for _, q := range c.queues {
			q.free()
		}
		c.unshare()
	}
}

// Start implements [channel.Channel]: it registers the rings, if INIT agreed
// on them.
func (c *Channel) Start(p channel.Params) error {
	if err := c.dev.Start(p); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.Flags&overIOURing == 0 {
		c.why = "INIT did not agree on it"
		return nil
	}
	if c.stop.Load() {
		return nil
	}
	if c.handler == nil {
		c.agreed = &p
		return nil
	}
	if err := c.begin(p); err != nil {
		return fmt.Errorf("FUSE over io_uring: %w", err)
	}
	return nil
}

// begin makes the queues and their owners. If the kernel refuses an entry, it
// goes on with the device, and so do we; rings that cannot be made at all are
// an error, because the kernel would hold every request back for them. mu is
// held.
func (c *Channel) begin(p channel.Params) error {
	n, err := sys.PossibleCPUs()
	if err != nil {
		return err
	}
	// The kernel wants room for the longest READ and WRITE, and at least 8 KiB;
	// a page more, because its own answers to RETRIEVE have overrun by that.
	size := max(8192, int(p.MaxWrite), int(p.MaxPages)*sys.PageSize, c.dev.Caps().MaxPayload)
	size = (size+sys.PageSize-1)&^(sys.PageSize-1) + sys.PageSize
	switch {
	case c.resumed:
		size = int(c.region.size)
	case c.opts.Private:
		c.unshared = "the memory is to be private"
	default:
		if c.region, err = newRegion(n, c.opts.MaxDepth, size); err != nil {
			c.unshared = err.Error()
		}
	}
	for cpu := range n {
		q, err := newQueue(c, cpu, size)
		if err != nil {
			c.end()
			return fmt.Errorf("queue of processor %d: %w", cpu, err)
		}
		c.queues = append(c.queues, q)
	}
	c.monitor = stall.Start(lookEvery, c.look)
	c.begun = true
	answers := make(chan error, n)
	for _, q := range c.queues {
		go q.found(answers)
	}
	for range n {
		if err := <-answers; err != nil {
			c.why = fmt.Sprintf("the kernel refused an entry: %v", err)
		}
	}
	if c.why != "" {
		c.end()
		c.queues, c.begun = nil, false
		return nil
	}
	if dev, ok := c.dev.(interface{ Pace(time.Duration) }); ok {
		dev.Pace(forgetPace)
	}
	return nil
}

// look is the monitor's scan: it takes queues away from owners that are stuck
// in a handler.
func (c *Channel) look() bool {
	active := false
	for _, q := range c.queues {
		ticket, moved, inside, stuck := q.turn.Look()
		active = active || moved || inside
		switch {
		case !stuck:
			q.running = 0
		case q.running < runningLooks && sys.Runnable(int(q.owner.Load())):
			// It computes, or waits for a processor: what a loaded machine
			// looks like. Another thread would wait for the same one.
			q.running++
		case q.turn.Steal(ticket):
			q.running = 0
			q.replace()
		}
	}
	return active
}

// Notify implements [channel.Channel]: notifications go by the device.
func (c *Channel) Notify(msg []byte) error { return c.dev.Notify(msg) }

// Close implements [channel.Channel].
func (c *Channel) Close() error {
	c.mu.Lock()
	if c.handler == nil {
		c.closeFD() // Serve, which would, may never be called
	}
	c.mu.Unlock()
	return c.dev.Close()
}

// closeFD closes the duplicate, once. mu is held.
func (c *Channel) closeFD() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// BackingOpen implements [channel.Backer].
func (c *Channel) BackingOpen(fd int, flags uint32) (int32, error) {
	if b, ok := c.dev.(channel.Backer); ok {
		return b.BackingOpen(fd, flags)
	}
	return 0, channel.ErrUnsupported
}

// BackingClose implements [channel.Backer].
func (c *Channel) BackingClose(id int32) error {
	if b, ok := c.dev.(channel.Backer); ok {
		return b.BackingClose(id)
	}
	return channel.ErrUnsupported
}
