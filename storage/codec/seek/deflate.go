package seek

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// ErrChecksum says that a stream is whole but its contents are not what was
// compressed.
var ErrChecksum = errors.New("checksum of the contents is wrong")

// deflate is a stream of one deflate stream or of a row of gzip members
// (RFC 1952).
type deflate struct {
	f      *inflater
	src    io.ReaderAt
	size   int64 // of src
	gzip   bool
	head   bool // a member's header is next
	tail   bool // a member's trailer is next
	ended  bool // nothing follows
	border func(*deflate)
	check  *Check
	failed error // what ended the input, once what was decoded before is read

	// Of the member under way; crc is right only if it was seen whole.
	crc    uint32
	length int64
	whole  bool
}

func newDeflate(src io.ReaderAt, size int64, gzip bool) *deflate {
	return &deflate{f: inflaters.Get().(*inflater), src: src, size: size, gzip: gzip}
}

// inflaters are some 300 KiB each, and an archive of small members needs a
// new one for each of them.
var inflaters = sync.Pool{New: func() any { return newInflater() }}

func (d *deflate) close() {
	d.f.src, d.f.in = nil, nil
	inflaters.Put(d.f)
	d.f = nil
}

func (d *deflate) start(p *Point) error {
	if p.In < 0 || p.In > d.size || p.Bits > 7 {
		return errIndex
	}
	d.f.reset(io.NewSectionReader(d.src, p.In, d.size-p.In), p.In, p.First, p.Bits, p.Window)
	d.head, d.tail, d.ended, d.failed = p.Head && d.gzip, false, false, nil
	d.crc, d.length, d.whole = 0, 0, p.Head
	return nil
}

// point describes the border at which the stream is, but for Out.
func (d *deflate) point() Point {
	in, bits := d.f.position()
	p := Point{In: in, Bits: bits, Head: d.head}
	if bits > 0 {
		p.First = byte(d.f.bitBuf&(1<<bits-1)) << (8 - bits)
	}
	if !d.head {
		p.Window = d.f.window(nil)
	}
	return p
}

// unread is how many bytes have been decoded and not been read.
func (d *deflate) unread() int { return len(d.f.pending()) }

func (d *deflate) Read(p []byte) (int, error) {
	for {
		if b := d.f.pending(); len(b) > 0 {
			n := copy(p, b)
			d.f.take(n)
			d.crc = crc32.Update(d.crc, crc32.IEEETable, p[:n])
			d.length += int64(n)
			return n, nil
		}
		var err error
		switch {
		case d.failed != nil:
			return 0, d.failed
		case d.ended:
			return 0, io.EOF
		case d.head:
			err = d.header()
		case d.tail:
			err = d.trailer()
		default:
			err = d.block()
		}
		if err != nil {
			return 0, err
		}
	}
}

func (d *deflate) block() error {
	border, done, err := d.f.step()
	switch {
	case err != nil && len(d.f.pending()) > 0:
		// A stretch may end within a block: what there is is good.
		d.failed = err
	case err != nil:
		return err
	case done:
		d.tail = true
	case border && d.border != nil:
		d.border(d)
	}
	return nil
}

// header reads the header of a gzip member.
func (d *deflate) header() error {
	var h [10]byte
	if err := d.bytes(h[:]); err != nil {
		return err
	}
	if h[0] != 0x1f || h[1] != 0x8b {
		return errors.New("gzip: bad magic")
	}
	if h[2] != 8 {
		return fmt.Errorf("gzip: method %d", h[2])
	}
	const hasCRC, hasExtra, hasName, hasComment = 2, 4, 8, 16
	flags := h[3]
	if flags&0xe0 != 0 {
		return errors.New("gzip: reserved flags are set")
	}
	if flags&hasExtra != 0 {
		var n [2]byte
		if err := d.bytes(n[:]); err != nil {
			return err
		}
		for range binary.LittleEndian.Uint16(n[:]) {
			if err := d.bytes(n[:1]); err != nil {
				return err
			}
		}
	}
	for _, f := range [...]byte{hasName, hasComment} {
		if flags&f == 0 {
			continue
		}
		for b := [1]byte{1}; b[0] != 0; {
			if err := d.bytes(b[:]); err != nil {
				return err
			}
		}
	}
	if flags&hasCRC != 0 {
		var n [2]byte
		if err := d.bytes(n[:]); err != nil {
			return err
		}
	}
	d.head = false
	d.crc, d.length = 0, 0
	d.f.history = 0 // a member cannot refer to the one before
	if d.border != nil {
		d.border(d)
	}
	return nil
}

// trailer reads what follows a deflate stream.
func (d *deflate) trailer() error {
	d.tail = false
	if !d.gzip {
		d.ended = true
		if c := d.check; c != nil && d.whole && (d.length != c.Size || d.crc != c.CRC32) {
			return fmt.Errorf("deflate: %w", ErrChecksum)
		}
		return nil
	}
	d.f.bitBuf >>= d.f.nbits % 8
	d.f.nbits -= d.f.nbits % 8
	var t [8]byte
	if err := d.bytes(t[:]); err != nil {
		return err
	}
	if d.whole && (binary.LittleEndian.Uint32(t[:]) != d.crc || binary.LittleEndian.Uint32(t[4:]) != uint32(d.length)) {
		return fmt.Errorf("gzip: %w", ErrChecksum)
	}
	// Another member may follow, or zeros that fill a tape's block.
	for {
		if err := d.f.fill(8); err == io.EOF {
			d.ended = true
			return nil
		} else if err != nil {
			return err
		}
		if byte(d.f.bitBuf) != 0 {
			break
		}
		d.f.bitBuf >>= 8
		d.f.nbits -= 8
	}
	d.head, d.whole = true, true
	d.f.mode, d.f.final = modeHeader, false
	if d.border != nil {
		d.border(d)
	}
	return nil
}

// bytes reads whole bytes that stand between deflate streams.
func (d *deflate) bytes(p []byte) error {
	for i := range p {
		v, err := d.f.bits(8)
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		p[i] = byte(v)
	}
	return nil
}
