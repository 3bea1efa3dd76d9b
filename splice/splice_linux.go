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
		r:    os.NewFile(uintptr(fds[0]), "pipe"),
		w:    os.NewFile(uintptr(fds[1]), "pipe"),
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
	got, err := control(p.r, func(fd int) (int, error) {
		return unix.FcntlInt(uintptr(fd), F_SETPIPE_SZ, n)
	})
	if err != nil {
		return fmt.Errorf("splice: grow pipe to %d bytes: %w", n, err)
	}
	p.size = got
	return nil
}

// LoadFromAt moves up to sz bytes of the file fd, from offset off on, into
// the pipe.
func (p *Pair) LoadFromAt(fd uintptr, sz int, off int64) (int, error) {
	return control(p.w, func(w int) (int, error) {
		n, err := unix.Splice(int(fd), &off, w, nil, sz, 0)
		return int(n), err
	})
}

// LoadFrom moves up to sz bytes of fd, from its own position on, into the
// pipe. More than the pipe can hold is an error.
func (p *Pair) LoadFrom(fd uintptr, sz int) (int, error) {
	if sz > p.size {
		return 0, fmt.Errorf("splice: %d bytes do not fit a pipe of %d", sz, p.size)
	}
	return control(p.w, func(w int) (int, error) {
		n, err := unix.Splice(int(fd), nil, w, nil, sz, 0)
		return int(n), err
	})
}

// SpliceFrom moves up to sz bytes out of the pipe src into this one.
func (p *Pair) SpliceFrom(src *Pair, sz int) (int, error) {
	return control(src.r, func(r int) (int, error) {
		return control(p.w, func(w int) (int, error) {
			n, err := unix.Splice(r, nil, w, nil, sz, 0)
			return int(n), err
		})
	})
}

// WriteTo moves up to n bytes out of the pipe to fd, at its own position.
func (p *Pair) WriteTo(fd uintptr, n int) (int, error) {
	return p.WriteToFlags(fd, n, unix.SPLICE_F_MOVE)
}

// WriteToFlags is WriteTo with flags of splice(2).
func (p *Pair) WriteToFlags(fd uintptr, n int, flags int) (int, error) {
	return control(p.r, func(r int) (int, error) {
		m, err := unix.Splice(r, nil, int(fd), nil, n, flags)
		return int(m), err
	})
}

// Writev puts bufs, one after the other, into the pipe.
func (p *Pair) Writev(bufs [][]byte) (int, error) {
	return control(p.w, func(fd int) (int, error) { return unix.Writev(fd, bufs) })
}

func (p *Pair) read(d []byte) (int, error) {
	return control(p.r, func(fd int) (int, error) { return unix.Read(fd, d) })
}

func (p *Pair) write(d []byte) (int, error) {
	return control(p.w, func(fd int) (int, error) { return unix.Write(fd, d) })
}

// control runs f, again after EINTR, while the descriptor of file cannot be
// closed.
func control(file *os.File, f func(fd int) (int, error)) (n int, err error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var ferr error
	err = conn.Control(func(fd uintptr) {
		for {
			n, ferr = f(int(fd))
			if ferr != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return 0, err
	}
	if ferr != nil {
		return max(n, 0), ferr
	}
	return n, nil
}
