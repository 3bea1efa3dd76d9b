// Package mmap maps files into memory read-only, so that metadata of any
// size costs no heap, and turns the fault of a mapped file that was cut
// short into an error instead of the end of the process.
//
// A reader of a mapping brackets its work so:
//
//	func (t *tree) guard(err *error, old bool) {
//		debug.SetPanicOnFault(old)
//		if e := t.m.Fault(recover()); e != nil {
//			*err = e
//		}
//	}
//
//	func (t *tree) stat() (err error) {
//		defer t.guard(&err, debug.SetPanicOnFault(true))
//		...
//	}
package mmap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"unsafe"
)

// ErrTruncated is the error of a guarded read of bytes that the file no
// longer has.
var ErrTruncated = errors.New("the mapped file was cut short or can not be read any more")

// Map is a read-only mapping. Its methods may run concurrently, except Close.
type Map struct {
	data  []byte
	lo    uintptr
	unmap func([]byte) error
	file  bool // the bytes are a file's, and can be had from it again
}

// Open maps the whole of the file called name, which is a regular one or a
// block device.
func Open(name string) (*Map, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return File(f)
}

// File maps the whole of f, which the caller may close afterwards.
func File(f *os.File) (*Map, error) {
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return &Map{}, nil
	}
	if size != int64(int(size)) {
		return nil, fmt.Errorf("%s: %d bytes are too many to map", f.Name(), size)
	}
	data, unmap, err := mapFile(f, int(size))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	m := newMap(data, unmap)
	m.file = unmap != nil
	return m, nil
}

// sizeOf returns how many bytes a regular file or a block device has.
func sizeOf(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch st.Mode().Type() {
	case 0:
		return st.Size(), nil
	case fs.ModeDevice:
		return f.Seek(0, io.SeekEnd)
	}
	return 0, fmt.Errorf("%s: is neither a regular file nor a block device", f.Name())
}

// Anonymous returns n zero bytes that are not on the heap and may be
// written; n is more than 0.
func Anonymous(n int) (*Map, error) {
	data, unmap, err := mapAnonymous(n)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return newMap(data, unmap), nil
}

// Of returns a Map of bytes that are in memory already; Close leaves them
// alone.
func Of(b []byte) *Map { return newMap(b, nil) }

// Copy maps what r gives until its end, kept outside the heap. More than
// limit bytes are an error.
func Copy(r io.Reader, limit int64) (*Map, error) {
	f, err := memoryFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return File(f)
}

func newMap(data []byte, unmap func([]byte) error) *Map {
	return &Map{data: data, lo: uintptr(unsafe.Pointer(unsafe.SliceData(data))), unmap: unmap}
}

// Bytes returns the mapped bytes, valid until Close.
func (m *Map) Bytes() []byte { return m.data }

// Trim gives the pages of a mapped file back: they stop to count as memory of
// this process, stay in the system's cache of files as long as that has room,
// and come back when they are read again.
func (m *Map) Trim() {
	if m.file && m.data != nil {
		trim(m.data)
	}
}

// Close gives the mapping back. A second call does nothing.
func (m *Map) Close() error {
	data := m.data
	m.data = nil
	if data == nil || m.unmap == nil {
		return nil
	}
	return m.unmap(data)
}

// Fault is given what recover returned in a function that was deferred around
// reads of the mapping, debug.SetPanicOnFault being true meanwhile. It returns
// [ErrTruncated] when a read faulted inside the mapping and nil for nil; any
// other panic goes on.
func (m *Map) Fault(recovered any) error {
	if recovered == nil {
		return nil
	}
	fault, ok := recovered.(interface{ Addr() uintptr })
	if !ok || fault.Addr()-m.lo >= uintptr(len(m.data)) {
		panic(recovered)
	}
	return ErrTruncated
}

// Guarded calls f, which may read the mapping; a fault there ends f with
// [ErrTruncated].
func (m *Map) Guarded(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if e := m.Fault(recover()); e != nil {
			err = e
		}
	}()
	return f()
}

// Touch reads one byte of each page of b, so that a fault happens now.
func Touch(b []byte) {
	const page = 4096
	var sum byte
	for i := 0; i < len(b); i += page {
		sum ^= b[i]
	}
	if len(b) > 0 {
		sum ^= b[len(b)-1]
	}
	sink(sum)
}

//go:noinline
func sink(byte) {}
