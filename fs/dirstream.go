package fs

import (
	"context"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// DirStream lists the entries of a directory. A stream may also have
// [FileSeekdirer]; one that does not is started again when the reader goes
// back, so it has to list the same entries in the same order.
type DirStream interface {
	// HasNext reports whether there is an entry, or an error to be had. It
	// is false of a closed stream.
	HasNext() bool

	// Next returns the next entry. It is called after HasNext was true.
	Next() (fuse.DirEntry, syscall.Errno)

	// Close gives back what the stream holds.
	Close()
}

// NewListDirStream returns a stream of the entries in list, whose offsets are
// their positions.
func NewListDirStream(list []fuse.DirEntry) DirStream {
	return &listStream{list: list}
}

type listStream struct {
	list []fuse.DirEntry
	next int
}

func (s *listStream) HasNext() bool { return s.next < len(s.list) }

func (s *listStream) Next() (fuse.DirEntry, syscall.Errno) {
	e := s.list[s.next]
	s.next++
	e.Off = uint64(s.next)
	return e, 0
}

func (s *listStream) Close() {}

// Seekdir goes on behind the entry of offset off.
func (s *listStream) Seekdir(_ context.Context, off uint64) syscall.Errno {
	if off > uint64(len(s.list)) {
		return syscall.EINVAL
	}
	s.next = int(off)
	return 0
}

// Readdirent makes the stream a directory handle.
func (s *listStream) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !s.HasNext() {
		return nil, 0
	}
	e, errno := s.Next()
	return &e, errno
}

// Releasedir ends the directory handle.
func (s *listStream) Releasedir(context.Context, uint32) {}

// streamHandle is the directory handle of a node that lists itself by a
// stream: it is opened at the first use.
type streamHandle struct {
	open   func(context.Context) (DirStream, syscall.Errno)
	stream DirStream
	entry  fuse.DirEntry
}

func (h *streamHandle) start(ctx context.Context) (errno syscall.Errno) {
	if h.stream == nil {
		h.stream, errno = h.open(ctx)
	}
	return errno
}

func (h *streamHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if errno := h.start(ctx); errno != 0 {
		return nil, errno
	}
	if !h.stream.HasNext() {
		return nil, 0
	}
	var errno syscall.Errno
	h.entry, errno = h.stream.Next()
	return &h.entry, errno
}

func (h *streamHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	if errno := h.start(ctx); errno != 0 {
		return errno
	}
	if s, ok := h.stream.(FileSeekdirer); ok {
		return s.Seekdir(ctx, off)
	}
	h.stream.Close()
	h.stream = nil
	if errno := h.start(ctx); errno != 0 {
		return errno
	}
	for at := uint64(0); at != off; {
		if !h.stream.HasNext() {
			return syscall.EINVAL
		}
		e, errno := h.stream.Next()
		if errno != 0 {
			return errno
		}
		if at++; e.Off != 0 {
			at = e.Off
		}
	}
	return 0
}

func (h *streamHandle) Releasedir(context.Context, uint32) {
	if h.stream != nil {
		h.stream.Close()
	}
}
