// Package seek gives random access to contents that were compressed in one
// go: a deflated member of a zip, a tar.gz, a tar.zst.
//
// A [ReaderAt] remembers, while it decompresses for whoever reads, places
// from which decompression can start again: for deflate a block's border with
// the 32 KiB before it (the way that zlib's example zran shows), for gzip
// also the start of a member, for zstd the start of a frame. A later read
// starts at the nearest such place instead of at the beginning. What is
// remembered is an [Index]; it can be saved and given to a later ReaderAt of
// the same bytes.
//
// The compressed bytes are hostile: memory is bounded (see [Options]),
// errors name what is wrong, and a checksum of the format is verified
// whenever a stream is read whole from its start.
package seek

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Format is how the contents are compressed.
type Format uint8

// The formats. Gzip may have several members, Zstd several frames.
const (
	Deflate Format = 1 // RFC 1951, bare
	Gzip    Format = 2 // RFC 1952
	Zstd    Format = 3 // RFC 8878
)

func (f Format) String() string {
	switch f {
	case Deflate:
		return "deflate"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// Options are the bounds of a ReaderAt; zero values are the defaults.
type Options struct {
	Span    int64 // bytes of content between two points at first; default 1 MiB
	Points  int   // points kept at most; default 256. Beyond it the span doubles.
	Cache   int64 // bytes of decompressed contents kept at most, of late reads; default 1 MiB
	Cursors int   // decoders at most, busy and idle, of some 300 KiB each; default 4

	// Check, for Deflate, is what the contents must be; a stream that is read
	// whole from its start and is something else ends with ErrChecksum.
	Check *Check
}

// Check is what a zip says of a member's contents.
type Check struct {
	Size  int64
	CRC32 uint32 // IEEE
}

// ReaderAt reads contents by offset. It is safe for concurrent use.
//
// Lock order: mu is a leaf and is not held while bytes are decompressed.
type ReaderAt struct {
	src    io.ReaderAt
	size   int64 // compressed bytes
	format Format
	opts   Options

	mu      sync.Mutex
	changed sync.Cond // a cursor has become idle
	index   Index
	idle    []*cursor // least recently used first
	busy    []*cursor
	blocks  blocks
	closed  bool
}

// stream decompresses from a point on.
type stream interface {
	io.Reader
	start(*Point) error
	point() Point
	unread() int
}

// cursor is a stream somewhere in the contents.
type cursor struct {
	s   stream
	at  int64 // offset in the contents of the next byte that it gives
	end int64 // while busy: where it will be when it becomes idle
}

// New returns a reader of the size bytes in src. The index, from an earlier
// ReaderAt of the same bytes, may be nil.
func New(src io.ReaderAt, size int64, format Format, index *Index, opts Options) (*ReaderAt, error) {
	if opts.Span <= 0 {
		opts.Span = 1 << 20
	}
	if opts.Points <= 0 {
		opts.Points = 256
	}
	if opts.Cursors <= 0 {
		opts.Cursors = 4
	}
	if opts.Cache <= 0 {
		opts.Cache = 1 << 20
	}
	r := &ReaderAt{src: src, size: size, format: format, opts: opts}
	r.changed.L = &r.mu
	r.blocks = blocks{limit: int(max(1, opts.Cache/blockSize)), byNum: map[int64]*list.Element{}}
	r.index = Index{Format: format, Compressed: size, Size: -1, Span: opts.Span, Points: []Point{{Head: true}}}
	if index != nil {
		if err := index.check(format, size); err != nil {
			return nil, err
		}
		r.index = *index
		r.index.Points = slices.Clone(index.Points)
	}
	switch format {
	case Deflate, Gzip, Zstd:
		return r, nil
	}
	return nil, fmt.Errorf("%v is not supported", format)
}

// Index returns what is known so far. The windows are shared and must not be
// changed.
func (r *ReaderAt) Index() *Index {
	r.mu.Lock()
	defer r.mu.Unlock()
	index := r.index
	index.Points = slices.Clone(r.index.Points)
	return &index
}

// Close frees the decoders. Reads afterwards fail.
func (r *ReaderAt) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, c := range r.idle {
		c.close()
	}
	r.idle = nil
	r.blocks = blocks{}
	r.changed.Broadcast()
	return nil
}

// ReadAt reads len(p) bytes of the contents from off on, io.EOF telling that
// they end before that.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("seek: negative offset")
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		data, err := r.block(at / blockSize)
		if err != nil {
			return n, err
		}
		rest := data[min(at%blockSize, int64(len(data))):]
		n += copy(p[n:], rest)
		if len(data) < blockSize && n < len(p) {
			return n, io.EOF
		}
	}
	return n, nil
}

// Scan returns a reader of the whole contents from their start that leaves
// points behind for ReadAt. Close it when done.
func (r *ReaderAt) Scan() io.ReadCloser { return &scan{r: r} }

type scan struct {
	r *ReaderAt
	c *cursor
}

func (s *scan) Read(p []byte) (int, error) {
	if s.c == nil {
		c, err := s.r.newCursor()
		if err != nil {
			return 0, err
		}
		if err := c.s.start(&Point{Head: true}); err != nil {
			return 0, err
		}
		s.c = c
	}
	n, err := s.c.Read(p)
	if err == io.EOF {
		s.r.ended(s.c.at)
	}
	return n, err
}

func (s *scan) Close() error {
	if s.c != nil {
		s.c.close()
		s.c = nil
	}
	return nil
}

// acquire returns the cursor that gets to block num soonest; it belongs to
// the caller until release. If the block has come meanwhile, or is beyond the
// end, it returns that instead of a cursor.
func (r *ReaderAt) acquire(num int64) (*cursor, []byte, error) {
	off := num * blockSize
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.closed {
			return nil, nil, errors.New("seek: reader is closed")
		}
		if r.index.Size >= 0 && off >= r.index.Size {
			return nil, nil, nil
		}
		if data, ok := r.blocks.get(num); ok {
			return nil, data, nil
		}
		p := r.index.before(off)
		best, at := -1, p.Out
		for i, c := range r.idle {
			if c.at <= off && c.at >= at {
				best, at = i, c.at
			}
		}
		// A busy cursor that will stand nearer is worth waiting for: that is
		// how the kernel's parallel read-ahead of one reader gets along with
		// one decoder.
		near := slices.ContainsFunc(r.busy, func(c *cursor) bool { return c.end <= off+blockSize && c.end > at })
		full := best < 0 && len(r.idle) == 0 && len(r.busy) >= r.opts.Cursors
		if near || full {
			r.changed.Wait()
			continue
		}
		var c *cursor
		switch {
		case best >= 0:
			c = r.idle[best]
			r.idle = slices.Delete(r.idle, best, best+1)
		case len(r.idle)+len(r.busy) >= r.opts.Cursors:
			c = r.idle[0]
			r.idle = slices.Delete(r.idle, 0, 1)
		}
		if c == nil {
			var err error
			if c, err = r.newCursor(); err != nil {
				return nil, nil, err
			}
		}
		if best < 0 {
			c.at = p.Out
			if err := c.s.start(&p); err != nil {
				return nil, nil, err
			}
		}
		c.end = off + blockSize
		r.busy = append(r.busy, c)
		return c, nil, nil
	}
}

func (r *ReaderAt) release(c *cursor, err error) {
	if err == io.EOF {
		r.ended(c.at)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.busy, c)
	r.busy = slices.Delete(r.busy, i, i+1)
	if err == nil && !r.closed {
		r.idle = append(r.idle, c)
	} else {
		c.close() // it ended, or broke
	}
	r.changed.Broadcast()
}

// ended notes how long the contents are.
func (r *ReaderAt) ended(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index.Size < 0 {
		r.index.Size = size
	}
}

func (r *ReaderAt) newCursor() (*cursor, error) {
	c := &cursor{}
	switch r.format {
	case Zstd:
		z, err := newFrames(r.src, r.size)
		if err != nil {
			return nil, err
		}
		z.border = func(z *frames) { r.border(c) }
		c.s = z
	default:
		d := newDeflate(r.src, r.size, r.format == Gzip)
		d.check = r.opts.Check
		d.border = func(d *deflate) { r.border(c) }
		c.s = d
	}
	return c, nil
}
