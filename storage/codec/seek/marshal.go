package seek

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

// An index on disk: the magic, a flate stream of the fields as uvarints with
// the windows among them, and a CRC-32 (IEEE) of all before it.
const indexMagic = "sluiseek\x01"

// maxIndexPoints bounds what a damaged index can make UnmarshalBinary
// allocate.
const maxIndexPoints = 1 << 20

// MarshalBinary implements encoding.BinaryMarshaler. It never fails.
func (x *Index) MarshalBinary() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(indexMagic)
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	var b []byte
	b = append(b, byte(x.Format))
	b = binary.AppendUvarint(b, uint64(x.Compressed))
	b = binary.AppendUvarint(b, uint64(x.Size+1))
	b = binary.AppendUvarint(b, uint64(x.Span))
	b = binary.AppendUvarint(b, uint64(len(x.Points)))
	last := Point{}
	for _, p := range x.Points {
		head := byte(0)
		if p.Head {
			head = 1
		}
		b = binary.AppendUvarint(b, uint64(p.Out-last.Out))
		b = binary.AppendUvarint(b, uint64(p.In-last.In))
		b = append(b, p.Bits, p.First, head)
		b = binary.AppendUvarint(b, uint64(len(p.Window)))
		b = append(b, p.Window...)
		last = p
		w.Write(b) // to a bytes.Buffer
		b = b[:0]
	}
	w.Write(b)
	w.Close()
	return binary.LittleEndian.AppendUint32(out.Bytes(), crc32.ChecksumIEEE(out.Bytes())), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler; New checks that the
// index is in order.
func (x *Index) UnmarshalBinary(data []byte) error {
	if len(data) < len(indexMagic)+4 || string(data[:len(indexMagic)]) != indexMagic {
		return errors.New("seek: not an index of this version")
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return errors.New("seek: index is damaged")
	}
	r := indexReader{r: flate.NewReader(bytes.NewReader(body[len(indexMagic):]))}
	*x = Index{Format: Format(r.byte()), Compressed: r.int(), Size: r.int() - 1, Span: r.int()}
	n := r.int()
	if n > maxIndexPoints {
		return errors.New("seek: index has too many points")
	}
	var last Point
	for range n {
		p := Point{Out: last.Out + r.int(), In: last.In + r.int(), Bits: r.byte(), First: r.byte(), Head: r.byte() != 0}
		if size := r.int(); size > windowSize {
			return errors.New("seek: index has a window that is too long")
		} else if size > 0 {
			p.Window = make([]byte, size)
			r.full(p.Window)
		}
		if r.err != nil {
			return r.err
		}
		x.Points = append(x.Points, p)
		last = p
	}
	return r.err
}

// indexReader reads fields until the first error.
type indexReader struct {
	r   io.Reader
	err error
}

func (r *indexReader) full(p []byte) {
	if r.err == nil {
		_, r.err = io.ReadFull(r.r, p)
	}
}

func (r *indexReader) byte() byte {
	var b [1]byte
	r.full(b[:])
	return b[0]
}

// ReadByte implements io.ByteReader.
func (r *indexReader) ReadByte() (byte, error) {
	b := r.byte()
	return b, r.err
}

func (r *indexReader) int() int64 {
	if r.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(r)
	if err != nil || v > 1<<62 {
		r.err = errIndex
		return 0
	}
	return int64(v)
}
