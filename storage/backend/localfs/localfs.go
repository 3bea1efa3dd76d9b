// Package localfs has blobs in directories: a blob is the file of its name,
// in the first directory that has one.
package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/sluicefs/sluice/storage/backend"
)

// maxOpen is how many files stay open between reads.
const maxOpen = 64

// Backend reads blobs from directories.
type Backend struct {
	roots []*os.Root
	where string

	mu   sync.Mutex // leaf; not held over I/O
	open map[string]*file
}

// file is an open blob. It is closed when nobody uses it and the map has let
// go of it.
type file struct {
	*os.File
	users int  // guarded by Backend.mu
	gone  bool // not in the map any more
}

// New returns a backend for the blobs in dirs, which are searched in order.
// Names never lead out of them, not by symbolic links either.
func New(dirs ...string) (*Backend, error) {
	b := &Backend{where: strings.Join(dirs, ":"), open: make(map[string]*file)}
	if len(dirs) == 0 {
		return nil, errors.New("localfs: no directory")
	}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			b.Close()
			return nil, err
		}
		b.roots = append(b.roots, root)
	}
	return b, nil
}

// ReadAt fills p with the bytes of blob from off on.
func (b *Backend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := backend.CheckRead(b.where, blob, off, len(p)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := b.acquire(blob)
	if err != nil {
		return b.wrap("read", blob, 0, err)
	}
	defer b.release(f)
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b.wrap("read", blob, n, err)
}

// Size returns the size of the blob's file.
func (b *Backend) Size(ctx context.Context, blob string) (int64, error) {
	if err := backend.CheckRead(b.where, blob, 0, 0); err != nil {
		return 0, err
	}
	f, err := b.acquire(blob)
	if err != nil {
		return 0, b.wrap("size", blob, 0, err)
	}
	defer b.release(f)
	st, err := f.Stat()
	if err != nil {
		return 0, b.wrap("size", blob, 0, err)
	}
	return st.Size(), nil
}

// Close closes all files. Reads under way end first.
func (b *Backend) Close() error {
	b.mu.Lock()
	var idle []*file
	for name, f := range b.open {
		delete(b.open, name)
		f.gone = true
		if f.users == 0 {
			idle = append(idle, f)
		}
	}
	b.mu.Unlock()
	for _, f := range idle {
		f.Close()
	}
	var errs []error
	for _, r := range b.roots {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

func (b *Backend) wrap(op, blob string, n int, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	final := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist)
	return &backend.Error{Op: op, Where: b.where, Blob: blob, Done: n, Final: final, Err: err}
}

// acquire opens the blob's file or takes the one that is open.
func (b *Backend) acquire(blob string) (*file, error) {
	b.mu.Lock()
	if f, ok := b.open[blob]; ok {
		f.users++
		b.mu.Unlock()
		return f, nil
	}
	b.mu.Unlock()
	opened, err := b.find(blob)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	if f, ok := b.open[blob]; ok { // somebody else was quicker
		f.users++
		b.mu.Unlock()
		opened.Close()
		return f, nil
	}
	f := &file{File: opened, users: 1}
	out := b.evict()
	b.open[blob] = f
	b.mu.Unlock()
	if out != nil {
		out.Close()
	}
	return f, nil
}

// find opens the first regular file of that name.
func (b *Backend) find(blob string) (*os.File, error) {
	for _, r := range b.roots {
		st, err := r.Stat(blob)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !st.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err != nil {
			return nil, err
		}
		return r.Open(blob)
	}
	return nil, fs.ErrNotExist
}

// evict makes room for one more file; mu is held. The file it returns is
// the caller's to close.
func (b *Backend) evict() *file {
	if len(b.open) < maxOpen {
		return nil
	}
	for name, f := range b.open {
		if f.users == 0 {
			delete(b.open, name)
			f.gone = true
			return f
		}
	}
	return nil
}

func (b *Backend) release(f *file) {
	b.mu.Lock()
	f.users--
	last := f.gone && f.users == 0
	b.mu.Unlock()
	if last {
		f.Close()
	}
}
