package uring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// A region is the memory of all slots of a session, shared by the servers that
// follow each other. The kernel knows an entry by the virtual addresses of its
// buffers, as seen by whoever commits it, so the region lies at one address in
// all of them: the first server picks it. A page at its beginning (more on
// machines of many processors) holds how many slots each queue has; the slots
// of queue 0 follow, then those of queue 1. What was never touched takes no
// memory.
type region struct {
	geometry
	fd  int
	mem []byte
}

// geometry is all that another process needs to know to map a region.
type geometry struct {
	addr   uint64 // where it is mapped
	queues uint32
	depth  uint32 // slots of a queue, at most
	size   uint64 // bytes of a payload
}

const (
	// headBytes is what a slot has before its payload: a page for the kernel's
	// header and the journal, and room for a copy of the data of an IOCTL.
	headPages = 5

	// Where a region is tried first: far from Go's heap, from what the kernel
	// maps by itself and from the shadow memory of the race detector. An
	// address is picked at random, so that one process can take over several
	// sessions.
	regionBase = 0x1000_0000_0000
	regionTop  = 0x2000_0000_0000
	regionStep = 1 << 30
	regionTry  = 16

	maxQueues = 1 << 16
)

func (g geometry) control() int {
	return (int(g.queues)*4 + sys.PageSize - 1) &^ (sys.PageSize - 1)
}

func (g geometry) stride() int { return headPages*sys.PageSize + int(g.size) }

func (g geometry) bytes() int {
	return g.control() + int(g.queues)*int(g.depth)*g.stride()
}

// check finds out whether g, which came from outside, can be.
func (g geometry) check() error {
	page := uint64(sys.PageSize)
	switch {
	case g.addr == 0 || g.addr%page != 0 || g.addr >= 1<<47:
		return fmt.Errorf("address %#x", g.addr)
	case g.queues == 0 || g.queues > maxQueues:
		return fmt.Errorf("%d queues", g.queues)
	case g.depth == 0 || g.depth > maxSlots:
		return fmt.Errorf("%d entries in a queue", g.depth)
	case g.size < 8192 || g.size%page != 0 || g.size > 1<<30:
		return fmt.Errorf("entries of %d bytes", g.size)
	}
	return nil
}

// newRegion makes a region and picks its address.
func newRegion(queues, depth, size int) (*region, error) {
	r := &region{geometry: geometry{queues: uint32(queues), depth: uint32(depth), size: uint64(size)}, fd: -1}
	fd, err := sys.NewMemfd("fuse-rings", int64(r.bytes()))
	if err != nil {
		return nil, err
	}
	r.fd = fd
	for range regionTry {
		at := regionBase + rand.Uint64N((regionTop-regionBase)/regionStep)*regionStep
		if r.mem, err = sys.MapShared(fd, r.bytes(), uintptr(at)); err == nil {
			break
		}
		if err != unix.EEXIST { // this kind of processor has fewer addresses
			r.mem, err = sys.MapShared(fd, r.bytes(), 0)
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	r.addr = uint64(sys.Address(r.mem))
	sys.Populate(r.mem[:r.control()])
	return r, nil
}

// attachRegion maps the region of a predecessor. It takes a duplicate of fd.
// Nothing may be committed without it: the kernel would take the answer from
// the old address, find nothing there and spoil the entry.
func attachRegion(fd int, g geometry) (*region, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if err := sys.CheckMemfd(fd, int64(g.bytes())); err != nil {
		return nil, err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	mem, err := sys.MapShared(dup, g.bytes(), uintptr(g.addr))
	if err != nil {
		unix.Close(dup)
		if err == unix.EEXIST {
			err = errors.New("something else is there: the last server must be another process")
		}
		return nil, fmt.Errorf("map %d bytes of shared memory at %#x: %w", g.bytes(), g.addr, err)
	}
	r := &region{geometry: g, fd: dup, mem: mem}
	for q := range int(g.queues) {
		if n := r.count(q).Load(); n > g.depth {
			r.close()
			return nil, fmt.Errorf("queue %d has %d entries of %d", q, n, g.depth)
		}
	}
	return r, nil
}

func (r *region) close() {
	_ = sys.UnmapShared(r.mem) // cannot fail for what MapShared gave
	unix.Close(r.fd)
	r.mem, r.fd = nil, -1
}

// count is how many slots of a queue have been given to the kernel at some
// time.
func (r *region) count(queue int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.mem[4*queue]))
}

// slot returns the head and the payload of a slot.
func (r *region) slot(queue, index int) (head, payload []byte) {
	at := r.control() + (queue*int(r.depth)+index)*r.stride()
	b := r.mem[at : at+r.stride() : at+r.stride()]
	n := headPages * sys.PageSize
	return b[:n:n], b[n:]
}

// descriptionVersion is the first byte of a description.
const descriptionVersion = 1

// descriptionSize is version, then address, payload (8 bytes each), queues,
// depth (4 bytes each), little endian; what the device says of itself follows.
const descriptionSize = 1 + 8 + 8 + 4 + 4

func (g geometry) describe(device []byte) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, descriptionSize+len(device)), descriptionVersion)
	b = le.AppendUint64(b, g.addr)
	b = le.AppendUint64(b, g.size)
	b = le.AppendUint32(b, g.queues)
	b = le.AppendUint32(b, g.depth)
	return append(b, device...)
}

func parseDescription(b []byte) (g geometry, device []byte, err error) {
	if len(b) < descriptionSize || b[0] != descriptionVersion {
		return g, nil, fmt.Errorf("resume io_uring: %d bytes of state, not of version %d", len(b), descriptionVersion)
	}
	le := binary.LittleEndian
	g = geometry{addr: le.Uint64(b[1:]), size: le.Uint64(b[9:]), queues: le.Uint32(b[17:]), depth: le.Uint32(b[21:])}
	if err := g.check(); err != nil {
		return g, nil, fmt.Errorf("resume io_uring: the state tells of %w", err)
	}
	return g, b[descriptionSize:], nil
}
