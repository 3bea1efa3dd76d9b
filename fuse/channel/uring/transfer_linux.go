package uring

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/internal/sys"
)

// How a session over rings goes to another process
//
// The kernel has no command that takes an entry back. It forgets idle entries
// when their ring is closed; but a request that was given to one and not copied
// yet by the thread of that ring then fails with ECANCELED. So a planned
// hand-over leaves no entry idle:
//
//  1. the old server goes on collecting requests but serves and commits none;
//     what its handlers still have is answered in the shared memory, and not
//     committed either; each entry whose request stays is marked as held;
//  2. it has requests made, by processes of their own, until all entries are
//     held, and closes its rings;
//  3. the new server commits all that is answered, serves what is not, and
//     registers the entries that the kernel forgot.
//
// After a crash only the last step is left. A pair of connected sockets shows
// the new server that the old one's rings are closed: the old one has one end
// as long as it may write to the shared memory, the other goes along with the
// session.

const (
	// fillTime is how long entries may take to be held, and fillAgain after
	// how much of it more requests are made. An entry of a processor that is
	// off line is never held, and nobody makes requests there.
	fillTime  = 5 * time.Second
	fillAgain = time.Second
	shortNap  = 200 * time.Microsecond

	// gonePatience is how long the old server may take to close its rings.
	gonePatience = 20 * time.Second

	// settleTime is how long answers may take that are being written.
	settleTime = time.Second
)

// rings reports whether the session goes over rings, or has stayed on the
// device.
func (c *Channel) rings() (*region, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.region, c.begun
}

// transferable returns the device and the region of a session that can go to
// another process; without rings there is no region.
func (c *Channel) transferable() (dev channel.Transferable, r *region, err error) {
	dev, ok := c.dev.(channel.Transferable)
	if !ok {
		return nil, nil, channel.ErrUnsupported
	}
	r, begun := c.rings()
	if begun && r == nil {
		return nil, nil, fmt.Errorf("FUSE over io_uring: %s: %w", c.unshared, channel.ErrUnsupported)
	}
	if begun && c.opts.Path == "" {
		return nil, nil, fmt.Errorf("FUSE over io_uring: the successor needs the path of the mount: %w", channel.ErrUnsupported)
	}
	return dev, r, nil
}

// Pause implements [channel.Transferable]. Requests that arrive from now on
// are left to the successor; answers that are given from now on are as well.
func (c *Channel) Pause() error {
	dev, r, err := c.transferable()
	if err != nil {
		return err
	}
	if err := dev.Pause(); err != nil || r == nil {
		return err
	}
	c.pausing.Store(true)
	for _, q := range c.queues {
		for !q.paused.Load() && !c.stop.Load() {
			c.monitor.Wake() // an owner may be stuck in a handler
			q.rouse()
			time.Sleep(shortNap)
		}
	}
	return nil
}

// Files implements [channel.Transferable]: those of the device, and then the
// shared memory and the successor's socket.
func (c *Channel) Files() ([]int, error) {
	dev, r, err := c.transferable()
	if err != nil {
		return nil, err
	}
	if r == nil {
		return dev.Files()
	}
	c.sharing.Lock()
	defer c.sharing.Unlock()
	if err := c.tie(); err != nil {
		return nil, err
	}
	ours, err := sys.DuplicateFDs(r.fd, c.ties[1])
	if err != nil {
		return nil, err
	}
	files, err := dev.Files()
	if err != nil {
		unix.Close(ours[0])
		unix.Close(ours[1])
		return nil, err
	}
	return append(files, ours...), nil
}

// Describe implements [channel.Transferable].
func (c *Channel) Describe() ([]byte, error) {
	dev, r, err := c.transferable()
	if err != nil {
		return nil, err
	}
	b, err := dev.Describe()
	if err != nil || r == nil {
		return b, err
	}
	if c.pausing.Load() {
		c.settle()
		c.fill()
	}
	return r.describe(b), nil
}

// settle waits for handlers that are about to answer: the engine no longer
// counts them.
func (c *Channel) settle() {
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(shortNap) {
		if c.lent() == 0 {
			return
		}
	}
}

// lent is how many requests handlers have. The queues are paused, so that
// there are no new ones.
func (c *Channel) lent() (n int) {
	for _, q := range c.queues {
		for _, s := range q.slots {
			if st := s.state.Load(); st == inline || st == pending {
				n++
			}
		}
	}
	return n
}

// tie makes the pair of sockets, once. sharing is held.
func (c *Channel) tie() (err error) {
	if c.freed.Load() {
		return channel.ErrEnded
	}
	if c.ties == [2]int{} {
		c.ties, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	return err
}

// unshare frees the region and closes the pair: nothing here writes to the
// shared memory any more.
func (c *Channel) unshare() {
	c.sharing.Lock()
	defer c.sharing.Unlock()
	if c.region != nil {
		c.region.close()
	}
	if c.ties != [2]int{} {
		unix.Close(c.ties[0])
		unix.Close(c.ties[1])
		c.ties = [2]int{}
	}
}

// fill has requests made until all entries are held, but for those whose
// requests handlers still have. The processes that make them wait for the
// successor.
func (c *Channel) fill() {
	made := make([]int, len(c.queues)) // requests that have been made for a queue
	var next time.Time
	for end := time.Now().Add(fillTime); time.Now().Before(end); time.Sleep(shortNap) {
		if time.Now().After(next) {
			next = time.Now().Add(fillAgain)
			clear(made)
		}
		if c.fillOnce(made) == 0 {
			return
		}
	}
}

// fillOnce has requests made for entries that are not held, as far as they have
// not been made, and returns how many entries there are of those.
func (c *Channel) fillOnce(made []int) (missing int) {
	c.sharing.Lock()
	defer c.sharing.Unlock()
	if c.stop.Load() || c.freed.Load() {
		return 0
	}
	for _, q := range c.queues {
		n := q.idle()
		missing += n
		var kicks []sys.Kick
		for ; made[q.cpu] < n; made[q.cpu]++ {
			if k, err := sys.StartKick(c.path(), q.cpu, 1); err == nil {
				kicks = append(kicks, k)
			}
		}
		go reap(kicks)
	}
	return missing
}

func reap(kicks []sys.Kick) {
	for _, k := range kicks {
		_ = k.Wait() // a processor where we may not run has no requests of ours
	}
}

// idle is how many entries of the queue are neither held nor a handler's.
func (q *queue) idle() (n int) {
	for _, s := range q.slots {
		if st := s.state.Load(); st != inline && st != pending && !s.journal.parked() {
			n++
		}
	}
	return n
}

// Resume makes a channel that goes on with a session of another process: files
// and desc are what its Files and Describe gave, device makes the channel
// below out of their device's part, and opts has the Path. The last server's
// rings must be closed, or about to be: otherwise it fails after a while. Call
// Start before Serve.
func Resume(files []int, desc []byte, device func(files []int, desc []byte) (channel.Channel, error), opts Options) (*Channel, error) {
	g, devDesc, err := parseDescription(desc)
	if err != nil {
		return nil, err
	}
	n := len(files) - 2
	if n < 1 {
		return nil, fmt.Errorf("resume io_uring: %d descriptors", len(files))
	}
	cpus, err := sys.PossibleCPUs()
	if err == nil && cpus != int(g.queues) {
		err = fmt.Errorf("%d queues, the machine has %d processors", g.queues, cpus)
	}
	if err != nil {
		return nil, fmt.Errorf("resume io_uring: %w", err)
	}
	r, err := attachRegion(files[n], g)
	if err != nil {
		return nil, fmt.Errorf("resume io_uring: %w", err)
	}
	if !gone(files[n+1], gonePatience) {
		r.close()
		return nil, fmt.Errorf("resume io_uring: the last server lives and has its rings after %v", gonePatience)
	}
	opts.MaxDepth = int(g.depth)
	dev, err := device(files[:n], devDesc)
	if err != nil {
		r.close()
		return nil, err
	}
	c, err := New(dev, files[0], opts)
	if err != nil {
		r.close()
		return nil, err
	}
	unix.Close(files[n])
	unix.Close(files[n+1])
	c.region, c.resumed = r, true
	return c, nil
}

// gone waits until the other end of a socket is closed.
func gone(peer int, patience time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(peer), Events: unix.POLLRDHUP}}
	for end := time.Now().Add(patience); ; {
		left := max(time.Until(end), 0)
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		if n > 0 || err != nil && err != unix.EINTR {
			return true
		}
		if left == 0 {
			return false
		}
	}
}
