package seek

import "io"

// borderSpan is the least distance in bytes of content between two points
// that Borders keeps: a hostile stream of tiny blocks, each a point with its
// window, costs no more than that many copies.
const borderSpan = 16 << 10

// Borders decompresses gzip data from its start to its end and knows the
// blocks' borders on the way: for a writer of an index who wants to choose
// its points by what the contents are. Memory is bounded by how far
// decompression runs ahead of the reader. It is not safe for concurrent use.
type Borders struct {
	d      *deflate
	out    int64   // bytes given out
	points []Point // by offset; all but the last may be dropped by Before
}

// NewBorders returns a reader of the contents of the gzip data in r.
func NewBorders(r io.Reader) *Borders {
	b := &Borders{d: newDeflate(nil, 0, true)}
	b.d.f.reset(whole{r}, 0, 0, 0, nil)
	b.d.head, b.d.whole = true, true
	b.d.border = b.border
	return b
}

// whole is a reader whose reads are short at the end only, so that what comes
// of them does not depend on how a pipe is cut.
type whole struct{ r io.Reader }

func (w whole) Read(p []byte) (int, error) {
	n, err := io.ReadFull(w.r, p)
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}

func (b *Borders) border(d *deflate) {
	if d.head || d.tail {
		return // the border behind the member's header serves
	}
	out := b.out + int64(d.unread())
	if n := len(b.points); n > 0 && out-b.points[n-1].Out < borderSpan {
		return
	}
	p := d.point()
	p.Out = out
	b.points = append(b.points, p)
}

// Read reads on.
func (b *Borders) Read(p []byte) (int, error) {
	n, err := b.d.Read(p)
	b.out += int64(n)
	return n, err
}

// Before returns the last known point at or before the offset off of the
// contents; its Head is false. Later calls must not ask for less than off.
// It reports false if not even a first block has been read.
func (b *Borders) Before(off int64) (Point, bool) {
	for len(b.points) > 1 && b.points[1].Out <= off {
		b.points = append(b.points[:0], b.points[1:]...)
	}
	if len(b.points) == 0 || b.points[0].Out > off {
		return Point{}, false
	}
	return b.points[0], true
}

// Consumed returns how many compressed bytes have been used: those before it
// are all that is needed for what has been read.
func (b *Borders) Consumed() int64 {
	in, _ := b.d.f.position()
	return in
}

// Close frees the decoder.
func (b *Borders) Close() error {
	if b.d != nil {
		b.d.close()
		b.d = nil
	}
	return nil
}
