package splice

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Resizable reports whether the capacity of a pipe can be changed.
func Resizable() bool { return true }

// MaxPipeSize returns the largest capacity, in bytes, that an ordinary user
// can give a pipe: /proc/sys/fs/pipe-max-size.
func MaxPipeSize() int { return maxPipeSize() }

var maxPipeSize = sync.OnceValue(func() int {
	b, err := os.ReadFile("/proc/sys/fs/pipe-max-size")
	if err != nil {
		return DefaultPipeSize
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < DefaultPipeSize {
		return DefaultPipeSize
	}
	return n
})

// newPair makes a pipe whose ends do not block.
func newPair() (*Pair, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	size, err := unix.FcntlInt(uintptr(fds[0]), F_GETPIPE_SZ, 0)
	if err != nil {
		size = DefaultPipeSize
	}
	return &Pair{
		r:    fds[0],
		w:    fds[1],
		size: size,
	}, nil
}

// MaxGrow makes the pipe as large as MaxPipeSize, if that is allowed.
func (p *Pair) MaxGrow() {
	for n := MaxPipeSize(); n > p.size; n /= 2 {
		if p.Grow(n) == nil {
			return
		}
	}
}

// Grow makes the pipe hold at least n bytes.
func (p *Pair) Grow(n int) error {
	if n <= p.size {
		return nil
	}
	if n > MaxPipeSize() {
		return fmt.Errorf("splice: pipe of %d bytes wanted, at most %d allowed", n, MaxPipeSize())
	}
	got, err := unix.FcntlInt(uintptr(p.r), F_SETPIPE_SZ, n)
	if err != nil {
		return fmt.Errorf("splice: grow pipe to %d bytes: %w", n, err)
	}
	p.size = got
	return nil
}

// LoadFromAt moves up to sz bytes of the file fd, from offset off on, into
// the pipe.
func (p *Pair) LoadFromAt(fd uintptr, sz int, off int64) (int, error) {
	return move(int(fd), &off, p.w, sz, 0)
}

// LoadFrom moves up to sz bytes of fd, from its own position on, into the
// pipe. More than the pipe can hold is an error.
func (p *Pair) LoadFrom(fd uintptr, sz int) (int, error) {
	if sz > p.size {
		return 0, fmt.Errorf("splice: %d bytes do not fit a pipe of %d", sz, p.size)
	}
	return move(int(fd), nil, p.w, sz, 0)
}

// SpliceFrom moves up to sz bytes out of the pipe src into this one.
func (p *Pair) SpliceFrom(src *Pair, sz int) (int, error) {
	return move(src.r, nil, p.w, sz, 0)
}

// WriteTo moves up to n bytes out of the pipe to fd, at its own position.
func (p *Pair) WriteTo(fd uintptr, n int) (int, error) {
	return p.WriteToFlags(fd, n, unix.SPLICE_F_MOVE)
}

// WriteToFlags is WriteTo with flags of splice(2).
func (p *Pair) WriteToFlags(fd uintptr, n int, flags int) (int, error) {
	return move(p.r, nil, int(fd), n, flags)
}

// Writev puts bufs, one after the other, into the pipe.
func (p *Pair) Writev(bufs [][]byte) (int, error) {
	return retry(func() (int, error) { return unix.Writev(p.w, bufs) })
}

func (p *Pair) read(d []byte) (int, error) {
	return retry(func() (int, error) { return unix.Read(p.r, d) })
}

func (p *Pair) write(d []byte) (int, error) {
	return retry(func() (int, error) { return unix.Write(p.w, d) })
}

// retry runs f until it is not interrupted. It never returns a negative count.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// move splices up to n bytes from one descriptor to another; a nil offset is
// the descriptor's own position.
func move(from int, off *int64, to, n, flags int) (int, error) {
	return retry(func() (int, error) {
		m, err := unix.Splice(from, off, to, nil, n, flags)
		return int(m), err
	})
}
