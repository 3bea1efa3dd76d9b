//go:build linux

// Package fsx tries a file at random against a model in memory: reads, writes,
// truncations, shared mappings, holes and re-opens, in the way of the fsx
// programs that file system developers use.
package fsx

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// maxSize bounds the file, bytes.
const maxSize = 256 << 10

// run is one file under test, and what should be in it.
type run struct {
	path  string
	f     *os.File
	model []byte
	r     *rand.Rand
	log   []string // the last operations
}

// Run does so many operations on a new file at path; the same seed gives the
// same operations. An error names the last of them. The caller must not be
// the process that serves the file system, as a fault in a mapping stops it.
func Run(path string, seed uint64, ops int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	x := &run{path: path, f: f, r: rand.New(rand.NewPCG(seed, 0))}
	defer func() { x.f.Close() }()
	for i := range ops {
		if err := x.step(); err != nil {
			return fmt.Errorf("seed %d, operation %d: %w\nlast operations:\n%s", seed, i, err, x.tail())
		}
	}
	return x.checkAll()
}

func (x *run) tail() string {
	var b bytes.Buffer
	for _, l := range x.log {
		fmt.Fprintln(&b, " ", l)
	}
	return b.String()
}

func (x *run) note(format string, args ...any) {
	if len(x.log) == 20 {
		x.log = x.log[1:]
	}
	x.log = append(x.log, fmt.Sprintf(format, args...))
}

// part picks a range in the first limit bytes.
func (x *run) part(limit int) (off, n int) {
	if limit == 0 {
		return 0, 0
	}
	off = x.r.IntN(limit)
	return off, 1 + x.r.IntN(min(limit-off, 40000))
}

func (x *run) step() error {
	switch x.r.IntN(12) {
	case 0, 1, 2:
		return x.read()
	case 3, 4, 5:
		return x.write()
	case 6:
		return x.truncate()
	case 7:
		return x.mapRead()
	case 8:
		return x.mapWrite()
	case 9:
		return x.punch()
	case 10:
		return x.copyRange()
	default:
		return x.reopen()
	}
}

func (x *run) same(what string, off int, got []byte) error {
	want := x.model[off : off+len(got)]
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("%s: byte %d: got %#x, want %#x", what, off+i, got[i], want[i])
		}
	}
	return nil
}

func (x *run) read() error {
	off, n := x.part(len(x.model))
	x.note("read %d at %d", n, off)
	b := make([]byte, n)
	if n == 0 {
		return nil
	}
	if _, err := x.f.ReadAt(b, int64(off)); err != nil {
		return err
	}
	return x.same("read", off, b)
}

// grow makes the model at least size long.
func (x *run) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

func (x *run) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.r.Uint32())
	}
	return b
}

func (x *run) write() error {
	off, n := x.part(maxSize)
	x.note("write %d at %d", n, off)
	b := x.random(n)
	x.grow(off + n)
	copy(x.model[off:], b)
	_, err := x.f.WriteAt(b, int64(off))
	return err
}

func (x *run) truncate() error {
	size := x.r.IntN(maxSize)
	x.note("truncate to %d", size)
	if size < len(x.model) {
		x.model = x.model[:size:size]
	}
	x.grow(size)
	if x.r.IntN(2) == 0 {
		return os.Truncate(x.path, int64(size))
	}
	return x.f.Truncate(int64(size))
}

// mapped calls f with a mapping of the pages around [off, off+n).
func (x *run) mapped(off, n, prot int, f func(b []byte)) error {
	start := off &^ 4095
	m, err := unix.Mmap(int(x.f.Fd()), int64(start), off+n-start, prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	f(m[off-start : off-start+n])
	if prot&unix.PROT_WRITE != 0 && x.r.IntN(2) == 0 {
		if err := unix.Msync(m, unix.MS_SYNC); err != nil {
			return err
		}
	}
	return unix.Munmap(m)
}

func (x *run) mapRead() (err error) {
	off, n := x.part(len(x.model))
	x.note("read %d at %d from a mapping", n, off)
	if n == 0 {
		return nil
	}
	if e := x.mapped(off, n, unix.PROT_READ, func(b []byte) { err = x.same("mapping", off, b) }); e != nil {
		return e
	}
	return err
}

func (x *run) mapWrite() error {
	off, n := x.part(len(x.model))
	x.note("write %d at %d through a mapping", n, off)
	if n == 0 {
		return nil
	}
	data := x.random(n)
	copy(x.model[off:], data)
	return x.mapped(off, n, unix.PROT_READ|unix.PROT_WRITE, func(b []byte) { copy(b, data) })
}

func (x *run) punch() error {
	off, n := x.part(len(x.model))
	x.note("punch %d at %d", n, off)
	if n == 0 {
		return nil
	}
	err := unix.Fallocate(int(x.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
	if err == unix.EOPNOTSUPP {
		return nil
	}
	clear(x.model[off : off+n])
	return err
}

func (x *run) copyRange() error {
	off, n := x.part(len(x.model))
	to := x.r.IntN(maxSize)
	n = min(n, max(to-off, off-to)) // the ranges must not overlap
	x.note("copy %d from %d to %d", n, off, to)
	if n == 0 {
		return nil
	}
	from, dst, left := int64(off), int64(to), n
	for left > 0 {
		c, err := unix.CopyFileRange(int(x.f.Fd()), &from, int(x.f.Fd()), &dst, left, 0)
		if err == unix.EOPNOTSUPP || err == unix.EXDEV || err == unix.ENOSYS {
			return nil
		}
		if err != nil {
			return err
		}
		if c == 0 {
			return fmt.Errorf("copy_file_range copied nothing")
		}
		left -= c
	}
	x.grow(to + n)
	copy(x.model[to:to+n], bytes.Clone(x.model[off:off+n]))
	return nil
}

func (x *run) reopen() error {
	x.note("reopen")
	if err := x.f.Close(); err != nil {
		return err
	}
	var err error
	x.f, err = os.OpenFile(x.path, os.O_RDWR, 0)
	return err
}

func (x *run) checkAll() error {
	b, err := os.ReadFile(x.path)
	if err != nil {
		return err
	}
	if len(b) != len(x.model) {
		return fmt.Errorf("size: got %d, want %d", len(b), len(x.model))
	}
	return x.same("whole file", 0, b)
}
