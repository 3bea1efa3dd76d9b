// Package device carries a FUSE session over /dev/fuse, the way that every
// kernel has.
//
// A reader is a goroutine in read(2). It answers inline: the handler runs on
// the thread that received the request, and its answer is one write(2) of
// header and body together. How many readers are right depends on the machine
// and its load (a request that wakes a thread on another core costs many times
// one that does not), so their number adapts: a few to begin with, more while
// all of them are busy, fewer when they idle.
//
// A handler that blocks is no longer a reader: it gives its place to another
// one, at once if it says so ([channel.Slot.Block]), else within milliseconds,
// when the monitor finds it. So blocked handlers are bounded by memory and not
// by the number of readers, and a thread is needed only for those that sleep in
// the kernel.
//
// Messages live in frames, outside Go's heap: room for one request, whose WRITE
// data begins at a page boundary, and room for its answer, whose body does. A
// frame takes real memory only for the pages that were touched, and gives those
// of large messages back when it is not among the few that are always in use.
//
// Locks: mu guards the lists of frames and readers; it is a leaf and is not
// taken for a request that is answered inline.
package device

import "runtime"

// DefaultMaxPayload is the most bytes of data a message carries if the options
// do not say: what Linux allows by default (256 pages of 4 KiB).
const DefaultMaxPayload = 1 << 20

// DefaultMaxRequests is the most requests that are in the hands of handlers at
// a time if the options do not say. More wait in the kernel.
const DefaultMaxRequests = 16384

// maxWaiting bounds the readers that wait for a message.
const maxWaiting = 64

// Options says how to read the device. The zero value is the default.
type Options struct {
	// Readers is how many readers there are at least; 0 lets the channel
	// choose.
	Readers int

	// Clone gives each of the first Readers readers a descriptor of its own
	// (FUSE_DEV_IOC_CLONE): a request is answered where it was read, and the
	// kernel's per-descriptor lock is shared by fewer. No gain was measured
	// on 2 processors.
	Clone bool

	// MaxPayload is the most bytes of data of a message.
	MaxPayload int

	// MaxRequests is the most requests in the hands of handlers.
	MaxRequests int
}

func (o *Options) fill() {
	if o.Readers <= 0 {
		// One reader keeps a lone client and its server on warm caches, a
		// second one serves while the first answers; more only when the
		// monitor sees both busy.
		o.Readers = min(2, runtime.GOMAXPROCS(0))
	}
	o.Readers = min(o.Readers, maxWaiting)
	if o.MaxPayload <= 0 {
		o.MaxPayload = DefaultMaxPayload
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	o.MaxRequests = max(o.MaxRequests, o.Readers+1)
}
