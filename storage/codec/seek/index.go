package seek

import (
	"errors"
	"sort"
)

var errIndex = errors.New("seek: index does not fit the compressed bytes")

// Point is a place at which decompression can start.
type Point struct {
	Out    int64  // offset in the contents
	In     int64  // offset in the compressed bytes of the first whole byte
	Bits   uint8  // bits, 0 to 7, of the byte before In that belong to it too: its highest
	First  byte   // the byte before In, if Bits is not 0
	Head   bool   // a gzip member's header or a zstd frame starts here
	Window []byte // up to 32 KiB of contents before Out
}

// Index is what is known of compressed contents. It says where in them
// decompression can start, nothing that needs to be trusted: a wrong index
// can only make reads fail or give wrong bytes of the same file, so keep it
// where the contents' owner keeps his own.
type Index struct {
	Format     Format
	Compressed int64 // bytes that are indexed
	Size       int64 // bytes of contents, -1 as long as the end was not seen
	Span       int64 // bytes between points at the least
	Points     []Point
}

// before returns the last point at or before off.
func (x *Index) before(off int64) Point {
	i := sort.Search(len(x.Points), func(i int) bool { return x.Points[i].Out > off })
	return x.Points[i-1]
}

// check refuses an index that is not in order.
func (x *Index) check(format Format, size int64) error {
	if x.Format != format || x.Compressed != size || x.Span <= 0 || len(x.Points) == 0 {
		return errIndex
	}
	if p := x.Points[0]; p.Out != 0 || p.In != 0 || p.Bits != 0 || !p.Head {
		return errIndex
	}
	for i := 1; i < len(x.Points); i++ {
		p, last := x.Points[i], x.Points[i-1]
		if p.Out <= last.Out || p.In < last.In || p.In > size || p.Bits > 7 || len(p.Window) > windowSize || int64(len(p.Window)) > p.Out {
			return errIndex
		}
	}
	return nil
}

// border is called by a cursor that stands where decompression could start.
func (r *ReaderAt) border(c *cursor) {
	out := c.at + int64(c.s.unread())
	r.mu.Lock()
	defer r.mu.Unlock()
	points := r.index.Points
	if out-points[len(points)-1].Out < r.index.Span {
		return
	}
	if len(points) >= r.opts.Points {
		kept := points[:0]
		for i, p := range points {
			if i%2 == 0 {
				kept = append(kept, p)
			}
		}
		clear(points[len(kept):])
		points = kept
		r.index.Span *= 2
	}
	p := c.s.point()
	p.Out = out
	r.index.Points = append(points, p)
}
