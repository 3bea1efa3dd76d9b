package fuse

import (
	"errors"
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
// reply is sent.
func ReadResultData(b []byte) ReadResult { return &readResultData{b} }

type readResultData struct{ data []byte }

func (r *readResultData) Size() int { return len(r.data) }
func (r *readResultData) Done()     {}

func (r *readResultData) Bytes([]byte) ([]byte, Status) { return r.data, OK }

// ReadResultFd returns sz bytes of the file fd from offset off on, or fewer
// where the file ends. The descriptor must stay open until the reply is sent.
// A negative offset reads from the file's own position, which it moves, for
// what cannot seek.
func ReadResultFd(fd uintptr, off int64, sz int) ReadResult {
	return &readResultFd{fd: fd, off: off, size: sz}
}

type readResultFd struct {
	fd   uintptr
	off  int64
	size int
}

func (r *readResultFd) Size() int { return r.size }
func (r *readResultFd) Done()     {}

// Bytes reads until buf is full or the file ends; what was read before an
// error counts.
func (r *readResultFd) Bytes(buf []byte) ([]byte, Status) {
	if r.size < 0 {
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
