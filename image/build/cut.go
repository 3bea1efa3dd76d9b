package build

import (
	"errors"
	"io"
	"math/bits"
	"slices"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
)

// Content-defined chunking: FastCDC with normalised chunking (Xia et al.,
// USENIX ATC 2016). A rolling hash of the last 64 bytes ends a chunk where
// some of its bits are zero; before the average size more bits have to be,
// behind it fewer, so that sizes crowd around the average.
//
// The chunks begin at any byte of a file, which an EROFS image has no place
// for: its files consist of blocks. Rounding the cuts to blocks would keep
// the form and lose the purpose, for bytes that an insertion has moved are in
// no block what they were. RAFS v5 gives every chunk its place in the file.

var errVariable = errors.New("content-defined chunks are not supported in RAFS v6 and EROFS, whose chunks all have one size: use RAFS v5")

// variableChunks reports whether the image's files have chunks of different
// sizes.
func variableChunks(i image.Info) bool {
	return i.Format == "rafs v5" && rafs.SuperFlags(i.Flags)&rafs.VariableChunks != 0
}

// gear gives every byte a random number. It decides where chunks end, and
// with that what images share: it never changes.
var gear = func() (g [256]uint64) {
	// SplitMix64 from zero (Steele et al., OOPSLA 2014).
	state := uint64(0)
	for i := range g {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		g[i] = z ^ z>>31
	}
	return g
}()

// cutter finds the ends of chunks.
type cutter struct {
	min, avg, max int
	early, late   uint64 // bits that have to be zero before and behind avg
}

func newCutter(largest uint32) cutter {
	avg := int(largest / 8)
	n := bits.TrailingZeros32(largest / 8)
	high := func(n int) uint64 { return ^uint64(0) << (64 - n) } // these depend on the most bytes
	return cutter{min: avg / 4, avg: avg, max: int(largest), early: high(n + 2), late: high(n - 2)}
}

// end returns the size of the chunk at the start of p. Of a p that is shorter
// than the largest chunk it is told that the file ends there.
func (c *cutter) end(p []byte) int {
	if len(p) <= c.min {
		return len(p)
	}
	p = p[:min(len(p), c.max)]
	// Bytes that cannot be the last need not be looked at, but for those that
	// the hash still depends on.
	hash, i := uint64(0), max(c.min-64, 0)
	for ; i < c.min; i++ {
		hash = hash<<1 + gear[p[i]]
	}
	for ; i < min(c.avg, len(p)); i++ {
		if hash = hash<<1 + gear[p[i]]; hash&c.early == 0 {
			return i + 1
		}
	}
	for ; i < len(p); i++ {
		if hash = hash<<1 + gear[p[i]]; hash&c.late == 0 {
			return i + 1
		}
	}
	return len(p)
}

// cutFile is a file whose chunks have been cut; the writer fills in blocks.
type cutFile struct {
	node   *inode
	blocks [][]uint32
}

// cutBlock is the number of chunks in a block of a cutFile.
const cutBlock = 512

// ref returns room for the position of one more chunk.
func (f *cutFile) ref(most int64) *uint32 {
	last := len(f.blocks) - 1
	if last < 0 || len(f.blocks[last]) == cap(f.blocks[last]) {
		f.blocks = append(f.blocks, make([]uint32, 0, min(cutBlock, most)))
		last++
	}
	b := append(f.blocks[last], 0)
	f.blocks[last] = b
	return &b[len(b)-1]
}

// windowChunks is how many of the largest chunks the window of cut has room for.
const windowChunks = 2

// cut takes the bytes of the regular file n, whose size is set, from r and
// cuts them into chunks by their content. joinCuts gives n its chunks.
func (b *builder) cut(n *inode, r io.Reader, path string) error {
	if n.size == 0 {
		return nil
	}
	if err := b.fits(n, path); err != nil {
		return err
	}
	c := newCutter(b.opt.ChunkSize)
	if b.window == nil {
		b.window = make([]byte, windowChunks*c.max)
	}
	out := cutFile{node: n}
	var have []byte // at the front or further back in the window
	unread := n.size
	for off := int64(0); off < n.size; {
		if len(have) < c.max && unread > 0 {
			kept := copy(b.window, have)
			more := int(min(unread, int64(len(b.window)-kept)))
			if err := readFull(r, b.window[kept:kept+more], path); err != nil {
				return err
			}
			unread -= int64(more)
			have = b.window[:kept+more]
		}
		size := c.end(have)
		s, err := b.slotFor(size)
		if err != nil {
			return err
		}
		copy(s.in[s.used:], have[:size])
		s.add(n, out.ref((n.size-off)/int64(c.min)+1), off, size)
		have = have[size:]
		off += int64(size)
	}
	b.cuts = append(b.cuts, out)
	return nil
}

// joinCuts gives the files that have been cut their chunks, once the writer
// has written them all.
func (b *builder) joinCuts() {
	for _, f := range b.cuts {
		f.node.setChunks(slices.Concat(f.blocks...))
	}
	b.cuts = nil
}

// fillReader reads a file by its filler.
type fillReader struct {
	from filler
	off  int64
	size int64
}

func (r *fillReader) Read(p []byte) (int, error) {
	if r.off == r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.off)]
	if err := r.from.fill(p, r.off); err != nil {
		return 0, err
	}
	r.off += int64(len(p))
	return len(p), nil
}
