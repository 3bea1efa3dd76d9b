package seek

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory of a decoder: what zstd's command line
// accepts by itself.
const maxZstdWindow = 128 << 20

// frames is a stream of zstd frames (RFC 8878), each of which can be
// started at.
type frames struct {
	src    io.ReaderAt
	size   int64
	next   int64 // where the next frame begins
	dec    *zstd.Decoder
	open   bool // a frame is under way
	border func(*frames)
}

func newFrames(src io.ReaderAt, size int64) (*frames, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	return &frames{src: src, size: size, dec: dec}, nil
}

func (z *frames) start(p *Point) error {
	if p.In < 0 || p.In > z.size || !p.Head {
		return errIndex
	}
	z.next, z.open = p.In, false
	return nil
}

func (z *frames) point() Point { return Point{In: z.next, Head: true} }
func (z *frames) unread() int  { return 0 }
func (z *frames) close()       { z.dec.Close() }

func (z *frames) Read(p []byte) (int, error) {
	for {
		if !z.open {
			if err := z.frame(); err != nil {
				return 0, err
			}
		}
		n, err := z.dec.Read(p)
		if err == io.EOF {
			z.open = false
			if z.next < z.size && z.border != nil && n == 0 {
				z.border(z)
			}
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// frame begins the next frame that has data; io.EOF if there is none.
func (z *frames) frame() error {
	for z.next < z.size {
		n, data, err := frameSize(z.src, z.next, z.size)
		if err != nil {
			return fmt.Errorf("zstd: frame at offset %d: %w", z.next, err)
		}
		at := z.next
		z.next += n
		if data {
			z.open = true
			return z.dec.Reset(io.NewSectionReader(z.src, at, n))
		}
	}
	return io.EOF
}

// frameSize returns how many bytes the frame at off has, from its block
// headers, and whether it is one with data and not one to be skipped.
func frameSize(src io.ReaderAt, off, size int64) (n int64, data bool, err error) {
	var h [18]byte
	got, err := src.ReadAt(h[:min(int64(len(h)), size-off)], off)
	if err != nil && err != io.EOF || got < 5 {
		return 0, false, errors.Join(io.ErrUnexpectedEOF, err)
	}
	switch magic := binary.LittleEndian.Uint32(h[:]); {
	case magic&0xfffffff0 == 0x184d2a50:
		if got < 8 {
			return 0, false, io.ErrUnexpectedEOF
		}
		n = 8 + int64(binary.LittleEndian.Uint32(h[4:]))
		if n > size-off {
			return 0, false, io.ErrUnexpectedEOF
		}
		return n, false, nil
	case magic != 0xfd2fb528:
		return 0, false, fmt.Errorf("bad magic %#x", magic)
	}
	descriptor := h[4]
	single := descriptor&0x20 != 0
	n = 5 + int64([4]int{0, 1, 2, 4}[descriptor&3])
	switch descriptor >> 6 {
	case 0:
		if single {
			n++
		}
	case 1:
		n += 2
	case 2:
		n += 4
	case 3:
		n += 8
	}
	if !single {
		n++
	}
	for last := false; !last; {
		var b [3]byte
		if n > size-off-3 {
			return 0, false, io.ErrUnexpectedEOF
		}
		if _, err := src.ReadAt(b[:], off+n); err != nil {
			return 0, false, err
		}
		v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = v&1 != 0
		n += 3
		switch v >> 1 & 3 {
		case 1:
			n++
		case 3:
			return 0, false, errors.New("reserved block type")
		default:
			n += int64(v >> 3)
		}
	}
	if descriptor&4 != 0 {
		n += 4
	}
	if n > size-off {
		return 0, false, io.ErrUnexpectedEOF
	}
	return n, true, nil
}
