package fuse

import (
	"errors"
	"syscall"

	"github.com/sluicefs/sluice/splice"
)

// ReadResultPipe returns size bytes that wait in pipe. The result owns the
// pair: it goes back to package splice when the reply has been sent.
func ReadResultPipe(pipe *splice.Pair, size int) ReadResult {
	return ReadResultPipeFlags(pipe, size, 0)
}

// ReadResultPipeFlags is ReadResultPipe with flags for splice(2), which count
// only where the bytes leave by splice.
func ReadResultPipeFlags(pipe *splice.Pair, size, flags int) ReadResult {
	return &readResultPipe{pipe: pipe, size: size}
}

type readResultPipe struct {
	pipe *splice.Pair // nil once it was given back
	size int
}

func (r *readResultPipe) Size() int { return r.size }

func (r *readResultPipe) Bytes(buf []byte) ([]byte, Status) {
	if r.pipe == nil || r.size < 0 {
		return nil, EIO
	}
	buf = buf[:min(r.size, len(buf))]
	n := 0
	for n < len(buf) {
		m, err := r.pipe.Read(buf[n:])
		if n > 0 && errors.Is(err, syscall.EAGAIN) {
			break // fewer bytes than promised: a short read
		}
		if err != nil {
			return nil, ToStatus(err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	r.size -= n
	return buf[:n], OK
}

// Done gives the pair back; one that still holds bytes is dropped, because
// its next user would get them.
func (r *readResultPipe) Done() {
	pipe := r.pipe
	if r.pipe = nil; pipe == nil {
		return
	}
	if r.size != 0 {
		splice.Drop(pipe)
		return
	}
	splice.Done(pipe)
}
