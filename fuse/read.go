package fuse

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
)

// A ReadResult is the answer to a READ: data, or where data can be had. It
// serves one request. The server calls Size and Bytes once, then Done once.
type ReadResult interface {
	// Bytes returns the data. It may fill buf, whose length is what the
	// reader asked for, or return other memory, which must stay as it is
	// until Done.
	Bytes(buf []byte) ([]byte, Status)

	// Size returns how many bytes there can be at most.
	Size() int

	// Done says that the data is not needed any more. It is also called
	// where the reply could not be sent.
	Done()
}

// ReadResultData returns the bytes b, which must stay as they are until the
// reply is sent. The result serves one request: it is used again, for other
// requests, after Done.
func ReadResultData(b []byte) ReadResult {
	r := dataResults.Get().(*readResultData)
	r.data = b
	r.live.Store(true)
	return r
}

var dataResults = sync.Pool{New: func() any { return new(readResultData) }}

type readResultData struct {
	data []byte
	live atomic.Bool // between ReadResultData and Done
}

func (r *readResultData) Size() int { return len(r.data) }

func (r *readResultData) Bytes([]byte) ([]byte, Status) {
	if !r.live.Load() {
		return nil, EIO
	}
	return r.data, OK
}

// Done gives r back; further calls do nothing.
func (r *readResultData) Done() {
	if r.live.CompareAndSwap(true, false) {
		r.data = nil
		dataResults.Put(r)
	}
}

// ReadResultFd returns sz bytes of the file fd from offset off on, or fewer
// where the file ends. The descriptor must stay open until the reply is sent.
// A negative offset reads from the file's own position, which it moves, for
// what cannot seek.
func ReadResultFd(fd uintptr, off int64, sz int) ReadResult {
	r := fdResults.Get().(*readResultFd)
	r.fd, r.off, r.size = fd, off, sz
	r.live.Store(true)
	return r
}

var fdResults = sync.Pool{New: func() any { return new(readResultFd) }}

type readResultFd struct {
	fd   uintptr
	off  int64
	size int
	live atomic.Bool // between ReadResultFd and Done
}

func (r *readResultFd) Size() int { return r.size }

// Done gives r back; further calls do nothing.
func (r *readResultFd) Done() {
	if r.live.CompareAndSwap(true, false) {
		fdResults.Put(r)
	}
}

// Bytes reads until buf is full or the file ends; what was read before an
// error counts.
func (r *readResultFd) Bytes(buf []byte) ([]byte, Status) {
	if r.size < 0 || !r.live.Load() {
		return nil, EINVAL
	}
	buf = buf[:min(r.size, len(buf))]
	n := 0
	for n < len(buf) {
		m, err := r.readAt(buf[n:], int64(n))
		if errors.Is(err, syscall.EINTR) {
			continue // no byte was read
		}
		if err != nil && n == 0 {
			return nil, ToStatus(err)
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
		if r.off < 0 {
			break // a pipe or socket: what there is now
		}
	}
	return buf[:n], OK
}

func (r *readResultFd) readAt(b []byte, done int64) (int, error) {
	if r.off < 0 {
		return syscall.Read(int(r.fd), b)
	}
	return syscall.Pread(int(r.fd), b, r.off+done)
}

// ReadResultVector returns the bytes of vecs, one after the other; they must
// stay as they are until the reply is sent.
func ReadResultVector(vecs [][]byte) ReadResult { return &readResultVector{vecs} }

type readResultVector struct{ vecs [][]byte }

func (r *readResultVector) Done() {}

func (r *readResultVector) Size() int {
	n := 0
	for _, v := range r.vecs {
		n += len(v)
	}
	return n
}

func (r *readResultVector) Bytes(buf []byte) ([]byte, Status) {
	n := 0
	for _, v := range r.vecs {
		n += copy(buf[n:], v)
	}
	return buf[:n], OK
}
