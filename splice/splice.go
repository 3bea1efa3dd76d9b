// Package splice moves bytes between descriptors through pipes, without
// copying them to user space: splice(2). It keeps a pool of pipes, because
// making one costs more than using it.
//
// A [Pair] is a pipe with both its ends. Get one from the pool with [Get],
// give it back empty with [Done]; one that may still hold bytes must go with
// [Drop], or its next user would get them.
//
// Whether splice is faster than a copy depends on the machine: on recent ones
// a copy of up to some hundred KiB often wins. The exported names are those of
// go-fuse's package of this name.
package splice

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// DefaultPipeSize is the capacity of a new pipe in bytes.
const DefaultPipeSize = 16 * 4096

// Operations of fcntl(2) on pipes.
const (
	F_SETPIPE_SZ = 1031
	F_GETPIPE_SZ = 1032
)

// A Pair is a pipe. Methods may be called concurrently as far as the order of
// bytes allows, except Close.
type Pair struct {
	r, w int // descriptors, which never block
	size int // capacity in bytes
}

// Cap returns how many bytes the pipe can hold.
func (p *Pair) Cap() int { return p.size }

// Close closes both ends; a Pair that nobody closes keeps its descriptors. A Pair from the pool is closed by Drop.
func (p *Pair) Close() error {
	err := syscall.Close(p.r)
	if werr := syscall.Close(p.w); err == nil {
		err = werr
	}
	p.r, p.w = -1, -1
	return err
}

// Read takes bytes out of the pipe. It fails with EAGAIN when the pipe is
// empty.
func (p *Pair) Read(d []byte) (n int, err error) { return p.read(d) }

// Write puts bytes into the pipe. It fails with EAGAIN when the pipe is full.
func (p *Pair) Write(d []byte) (n int, err error) { return p.write(d) }

// ReadFd returns the descriptor of the end that bytes come out of. It is
// valid until Close.
func (p *Pair) ReadFd() uintptr { return uintptr(p.r) }

// WriteFd returns the descriptor of the end that bytes go into. It is valid
// until Close.
func (p *Pair) WriteFd() uintptr { return uintptr(p.w) }

// pool holds pairs that nobody uses. Its methods are safe for concurrent use.
type pool struct {
	mu   sync.Mutex
	free []*Pair
	used int // given out and not yet given back
}

// maxFree bounds how many idle pipes are kept: two descriptors and up to a
// megabyte of kernel memory each.
const maxFree = 64

var pairs pool

// Get takes a pair from the pool or makes one. It fails when the process has
// no descriptors left.
func Get() (*Pair, error) {
	pairs.mu.Lock()
	pairs.used++
	if n := len(pairs.free); n > 0 {
		p := pairs.free[n-1]
		pairs.free = pairs.free[:n-1]
		pairs.mu.Unlock()
		return p, nil
	}
	pairs.mu.Unlock()
	p, err := newPair()
	if err != nil {
		pairs.mu.Lock()
		pairs.used--
		pairs.mu.Unlock()
	}
	return p, err
}

// Done gives back a pair that is empty.
func Done(p *Pair) {
	pairs.mu.Lock()
	pairs.used--
	keep := len(pairs.free) < maxFree
	if keep {
		pairs.free = append(pairs.free, p)
	}
	pairs.mu.Unlock()
	if !keep {
		p.Close()
	}
}

// Drop closes a pair that came from Get and may still hold bytes.
func Drop(p *Pair) {
	p.Close()
	pairs.mu.Lock()
	pairs.used--
	pairs.mu.Unlock()
}

// Used returns how many pairs are out of the pool.
func Used() int {
	pairs.mu.Lock()
	defer pairs.mu.Unlock()
	return pairs.used
}

// Total returns how many pairs exist, in the pool and out of it.
func Total() int {
	pairs.mu.Lock()
	defer pairs.mu.Unlock()
	return pairs.used + len(pairs.free)
}

// ClearSplicePool closes the pairs that nobody uses.
func ClearSplicePool() {
	pairs.mu.Lock()
	free := pairs.free
	pairs.free = nil
	pairs.mu.Unlock()
	for _, p := range free {
		p.Close()
	}
}

// SpliceCopy copies src to dst through p, from the position of each, until
// src ends. It returns how many bytes arrived.
func SpliceCopy(dst *os.File, src *os.File, p *Pair) (int64, error) {
	var total int64
	for {
		n, err := p.LoadFrom(src.Fd(), p.Cap())
		if err != nil || n == 0 {
			return total, err
		}
		for n > 0 {
			m, err := p.WriteTo(dst.Fd(), n)
			total += int64(m)
			if err != nil {
				return total, err
			}
			if m == 0 {
				return total, io.ErrShortWrite
			}
			n -= m
		}
	}
}

// CopyFds copies the rest of src to dst.
func CopyFds(dst *os.File, src *os.File) (err error) {
	p, err := Get()
	if err != nil {
		return err
	}
	if err := p.Grow(256 << 10); err != nil && p.Cap() == 0 {
		Drop(p)
		return err
	}
	if _, err = SpliceCopy(dst, src, p); err != nil {
		Drop(p) // bytes may be left inside
		return err
	}
	Done(p)
	return nil
}

// CopyFile copies the file srcName to dstName, which is replaced or made with
// the permissions mode.
func CopyFile(dstName string, srcName string, mode int) error {
	src, err := os.Open(srcName)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(dstName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, os.FileMode(mode))
	if err != nil {
		return err
	}
	if err := CopyFds(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
