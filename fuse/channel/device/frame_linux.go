package device

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/internal/sys"
)

const (
	page = 4096

	// messageAt is where a message begins in a frame: header (40) and
	// arguments of WRITE (40) end at the page boundary.
	messageAt = page - 80

	// answerAt is where an answer begins in its half of a frame: the header
	// (16) ends at the page boundary.
	answerAt = page - channel.ReplyHeaderSize

	// rawLimit is the longest answer that is written behind the scheduler's
	// back: a copy of this size takes about 10 µs.
	rawLimit = 64 << 10

	// hotFrames is how many spare frames keep the memory of large messages.
	hotFrames = 4
)

// The life of a frame, as far as answering goes.
const (
	idle     = iota // nobody's, or its reader's
	inline          // the handler is running on the reader
	pending         // the handler returned without an answer
	answered        // answered while the handler was running
)

// frame is the memory of one request and its answer. It implements
// channel.Slot.
type frame struct {
	req    channel.Request
	c      *Channel
	r      *reader
	ticket uint64
	fd     int // where the request was read, and is answered
	state  atomic.Int32
	mem    []byte
	in     []byte // message at messageAt
	out    []byte // answer at answerAt
	dirty  int    // most bytes of data a message had since the memory was fresh
	next   *frame // in the list of spare ones
}

// take returns a frame to read into. It waits while MaxRequests are lent, and
// returns nil when the channel stops.
func (c *Channel) take() *frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.stop.Load() {
			return nil
		}
		if f := c.spare; f != nil {
			c.spare = f.next
			f.next = nil
			c.nspare--
			c.lent++
			return f
		}
		if c.live < c.opts.MaxRequests {
			if f := c.grow(); f != nil {
				c.lent++
				return f
			}
			if c.live == 0 {
				return nil
			}
		}
		c.freed.Wait()
	}
}

// grow makes a frame. mu is held.
func (c *Channel) grow() *frame {
	payload := (c.opts.MaxPayload + page - 1) &^ (page - 1)
	// Besides data there are names, extension areas, and 64 KiB of xattr.
	half := page + max(payload+page, 80<<10)
	mem, err := sys.Map(2 * half)
	if err != nil {
		if c.live == 0 && !c.isEnded {
			c.isEnded, c.err = true, err
			close(c.ended)
		}
		return nil
	}
	c.live++
	f := &frame{c: c, mem: mem, in: mem[:half:half], out: mem[half:]}
	f.req.Slot = f
	f.req.Header = f.in[messageAt:][:channel.HeaderSize:channel.HeaderSize]
	f.req.Out = f.out[page:]
	f.warm()
	return f
}

// warm gives memory to the pages that small messages and answers use. While
// this process is being killed the kernel can copy a request into a page that
// is there, but not into one that it would have to get first: the caller would
// see EIO although a successor could have answered.
func (f *frame) warm() {
	for _, b := range [][]byte{f.in, f.out} {
		b[0], b[page] = 0, 0
	}
}

func (f *frame) unmap() {
	_ = sys.Unmap(f.mem) // cannot fail for what Map gave
	f.req = channel.Request{}
}

// giveBack puts a frame among the spare ones; nil only ends a loan.
func (c *Channel) giveBack(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lent--
	if f != nil {
		if c.nspare >= hotFrames && f.dirty > 16*page {
			sys.Discard(f.mem)
			f.warm()
			f.dirty = 0
		}
		f.next = c.spare
		c.spare = f
		c.nspare++
		c.freed.Signal()
	}
	c.release()
}

// lend hands the frame with a message of n bytes to the handler.
func (f *frame) lend(r *reader, ticket uint64, n int) {
	f.r, f.ticket, f.fd = r, ticket, r.fd
	f.req.Args = f.in[messageAt+channel.HeaderSize : messageAt+n]
	f.dirty = max(f.dirty, n)
	f.state.Store(inline)
}

// forgets reports whether the message is FORGET or BATCH_FORGET.
func (f *frame) forgets() bool {
	op := wire.Opcode(binary.NativeEndian.Uint32(f.req.Header[4:]))
	return op == wire.OpForget || op == wire.OpBatchForget
}

// back reports, after the handler returned, whether the frame is the reader's
// again. If not it is still lent.
func (f *frame) back() bool {
	if f.state.CompareAndSwap(inline, pending) {
		return false
	}
	f.state.Store(idle)
	return true
}

// settle ends the loan: the reader takes the frame back itself if the handler
// is still running on it.
func (f *frame) settle() {
	if f.state.Swap(answered) == pending {
		f.state.Store(idle)
		f.c.giveBack(f)
	}
}

// Reply implements [channel.Slot].
func (f *frame) Reply(errno syscall.Errno, n int) error {
	if err := f.write(errno, n); err != nil {
		return err
	}
	f.settle()
	return nil
}

func (f *frame) write(errno syscall.Errno, n int) error {
	if n < 0 || n > len(f.req.Out) {
		errno = unix.EIO // a bug of the handler must not hang its caller
	}
	if errno != 0 {
		n = 0
	}
	f.dirty = max(f.dirty, n)
	msg := f.out[answerAt : page+n]
	ne := binary.NativeEndian
	ne.PutUint32(msg, uint32(len(msg)))
	ne.PutUint32(msg[4:], uint32(-int32(errno)))
	copy(msg[8:16], f.req.Header[8:16])
	for {
		var werr syscall.Errno
		if f.c.device && len(msg) <= rawLimit {
			_, werr = sys.RawWrite(f.fd, msg)
		} else {
			_, werr = sys.Write(f.fd, msg)
		}
		switch werr {
		case 0:
			return nil
		case unix.EINTR:
		case unix.ENODEV, unix.ECONNABORTED, unix.EPIPE:
			return channel.ErrEnded
		case unix.EINVAL:
			// The kernel has given its caller EIO.
			return werr
		default:
			return werr
		}
	}
}

// Release implements [channel.Slot].
func (f *frame) Release() { f.settle() }

// Block implements [channel.Slot].
func (f *frame) Block() {
	if f.r.turn.Steal(f.ticket) {
		f.c.replace(f.r)
	}
}

func gomaxprocs() int { return runtime.GOMAXPROCS(0) }
