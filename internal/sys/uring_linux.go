package sys

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/io_uring.h.
const (
	uringSetupCQSize      = 1 << 3
	uringSetupClamp       = 1 << 4
	uringSetupSubmitAll   = 1 << 7
	uringSetupCoopTaskrun = 1 << 8
	uringSetupSQE128      = 1 << 10

	uringOffSQRing = 0
	uringOffCQRing = 0x8000000
	uringOffSQEs   = 0x10000000

	uringEnterGetEvents = 1

	uringFeatSingleMmap = 1

	uringOpRead = 22
	uringOpCmd  = 46

	sqeSize = 128
	cqeSize = 16
)

type uringParams struct {
	sqEntries    uint32
	cqEntries    uint32
	flags        uint32
	sqThreadCPU  uint32
	sqThreadIdle uint32
	features     uint32
	wqFd         uint32
	resv         [3]uint32
	sq           struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, resv1 uint32
		userAddr                                                        uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, resv1 uint32
		userAddr                                                        uint64
	}
}

// Ring is an io_uring with submission entries of 128 bytes. One goroutine at a
// time may use it; whoever hands it on does so with a happens-before edge.
//
// Completions may be posted by any thread that submitted an entry, also while
// another one waits: the ring is made without SINGLE_ISSUER and DEFER_TASKRUN
// so that a thread that got stuck can be replaced.
type Ring struct {
	fd       int
	sqHead   *atomic.Uint32
	sqTail   *atomic.Uint32
	cqHead   *atomic.Uint32
	cqTail   *atomic.Uint32
	sqMask   uint32
	cqMask   uint32
	sqes     unsafe.Pointer
	cqes     unsafe.Pointer
	tail     uint32 // next submission entry, ahead of *sqTail
	toSubmit uint32
	rings    []byte // mapping of both rings
	sqeMem   []byte
}

// NewRing makes a ring with room for at least entries submissions and twice as
// many completions.
func NewRing(entries int) (*Ring, error) {
	var p uringParams
	p.flags = uringSetupSQE128 | uringSetupCoopTaskrun | uringSetupSubmitAll | uringSetupClamp | uringSetupCQSize
	p.cqEntries = uint32(2 * entries)
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &Ring{fd: int(fd)}
	unix.CloseOnExec(r.fd)
	if p.features&uringFeatSingleMmap == 0 {
		unix.Close(r.fd)
		return nil, fmt.Errorf("io_uring_setup: kernel without IORING_FEAT_SINGLE_MMAP")
	}
	if err := r.mapRings(&p); err != nil {
		r.Close()
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	return r, nil
}

func (r *Ring) mapRings(p *uringParams) (err error) {
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*cqeSize)
	r.rings, err = r.mapRing(uringOffSQRing, int(size))
	if err != nil {
		return err
	}
	r.sqeMem, err = r.mapRing(uringOffSQEs, int(p.sqEntries)*sqeSize)
	if err != nil {
		return err
	}
	base := unsafe.Pointer(unsafe.SliceData(r.rings))
	word := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Add(base, off)) }
	r.sqHead, r.sqTail = word(p.sq.head), word(p.sq.tail)
	r.cqHead, r.cqTail = word(p.cq.head), word(p.cq.tail)
	r.sqMask = word(p.sq.ringMask).Load()
	r.cqMask = word(p.cq.ringMask).Load()
	r.sqes = unsafe.Pointer(unsafe.SliceData(r.sqeMem))
	r.cqes = unsafe.Add(base, p.cq.cqes)
	r.tail = r.sqTail.Load()
	// The array maps a place in the queue to an entry: the identity, for good.
	for i := range p.sqEntries {
		word(p.sq.array + 4*i).Store(i)
	}
	return nil
}

// mapRing maps a part of the ring. A process that is forked off does not get
// it: the ring would outlive this process, and with it what the kernel has yet
// to complete, and the files that are used there.
func (r *Ring) mapRing(off int64, size int) ([]byte, error) {
	b, err := unix.Mmap(r.fd, off, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err == nil {
		err = unix.Madvise(b, unix.MADV_DONTFORK)
	}
	return b, err
}

// Close frees the ring. Entries that the kernel still has are cancelled.
func (r *Ring) Close() error {
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
		r.rings = nil
	}
	if r.sqeMem != nil {
		_ = unix.Munmap(r.sqeMem)
		r.sqeMem = nil
	}
	return unix.Close(r.fd)
}

// sqe returns the next submission entry, zeroed, or nil if the queue is full.
func (r *Ring) sqe() unsafe.Pointer {
	if r.tail-r.sqHead.Load() > r.sqMask {
		return nil
	}
	p := unsafe.Add(r.sqes, (r.tail&r.sqMask)*sqeSize)
	*(*[sqeSize]byte)(p) = [sqeSize]byte{}
	r.tail++
	r.toSubmit++
	return p
}

// sqeHead is the part of struct io_uring_sqe that is used here, and the
// command of FUSE that follows it (struct fuse_uring_cmd_req).
type sqeHead struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	off      uint64 // command number in the low half for uringOpCmd
	addr     uint64
	len      uint32
	opFlags  uint32
	userData uint64
	bufIndex uint16
	_        uint16
	_        uint32
	cmdFlags uint64 // offset 48
	commitID uint64
	qid      uint16
}

// Command queues a command to a FUSE device: op is FUSE_IO_URING_CMD_REGISTER
// or _COMMIT_AND_FETCH; addr and n are REGISTER's iovecs. It reports false if
// the submission queue is full.
func (r *Ring) Command(fd int, op uint32, addr uintptr, n int, commitID uint64, qid uint16, userData uint64) bool {
	e := (*sqeHead)(r.sqe())
	if e == nil {
		return false
	}
	e.opcode = uringOpCmd
	e.fd = int32(fd)
	e.off = uint64(op)
	e.addr = uint64(addr)
	e.len = uint32(n)
	e.userData = userData
	e.commitID = commitID
	e.qid = qid
	r.publish()
	return true
}

// ReadInto queues a read of fd into b, which is outside Go's heap and stays
// valid until the completion.
func (r *Ring) ReadInto(fd int, b []byte, userData uint64) bool {
	e := (*sqeHead)(r.sqe())
	if e == nil {
		return false
	}
	e.opcode = uringOpRead
	e.fd = int32(fd)
	e.off = ^uint64(0) // the file's own position: an eventfd has none
	e.addr = uint64(Address(b))
	e.len = uint32(len(b))
	e.userData = userData
	r.publish()
	return true
}

func (r *Ring) publish() { r.sqTail.Store(r.tail) }

// RawFlush submits what is queued and lets the kernel post what has completed.
// It never sleeps.
func (r *Ring) RawFlush() syscall.Errno {
	n, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.toSubmit), 0, uringEnterGetEvents, 0, 0)
	if errno == 0 {
		r.toSubmit -= uint32(n)
	}
	return errno
}

// Wait submits what is queued and sleeps until a completion is there, or a
// signal came (EINTR, or no error and nothing there).
func (r *Ring) Wait() syscall.Errno {
	n, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.toSubmit), 1, uringEnterGetEvents, 0, 0)
	if errno == 0 {
		r.toSubmit -= uint32(n)
	}
	return errno
}

// Ready reports whether a completion is there.
func (r *Ring) Ready() bool { return r.cqHead.Load() != r.cqTail.Load() }

// Next takes one completion off the ring.
func (r *Ring) Next() (userData uint64, res int32, ok bool) {
	head := r.cqHead.Load()
	if head == r.cqTail.Load() {
		return 0, 0, false
	}
	e := r.completion(head)
	userData, res = e.userData, e.res
	r.cqHead.Store(head + 1)
	return userData, res, true
}

// completion is struct io_uring_cqe.
type completion struct {
	userData uint64
	res      int32
	flags    uint32
}

func (r *Ring) completion(i uint32) *completion {
	return (*completion)(unsafe.Add(r.cqes, (i&r.cqMask)*cqeSize))
}

// PeekError returns the result of the first failed completion that is there,
// without taking any, or 0.
func (r *Ring) PeekError() int32 {
	for i, tail := r.cqHead.Load(), r.cqTail.Load(); i != tail; i++ {
		if res := r.completion(i).res; res < 0 {
			return res
		}
	}
	return 0
}

// IOVecs writes struct iovec for each of bufs to dst, which is outside Go's
// heap and holds 16 bytes for each.
func IOVecs(dst []byte, bufs ...[]byte) {
	v := unsafe.Slice((*[2]uint64)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst)/16)
	for i, b := range bufs {
		v[i] = [2]uint64{uint64(Address(b)), uint64(len(b))}
	}
}
