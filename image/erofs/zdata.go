package erofs

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// Compression algorithms.
const (
	algorithmLZ4     = 0
	algorithmLZMA    = 1
	algorithmDeflate = 2
	algorithmZstd    = 3
)

// decoded is a stretch with its bytes, kept for the next read of the file.
type decoded struct {
	nid uint64
	stretch
	b []byte
}

// readCompressed copies into p the bytes of the compressed file n from off
// on. It allocates.
func (im *Image) readCompressed(p []byte, n *Node, off uint64) (done int, err error) {
	z, err := im.compressed(n)
	if err != nil {
		return 0, err
	}
	for done < len(p) && off < n.Size {
		d := im.last.Load()
		if d == nil || d.nid != n.NID || off < d.start || off >= d.end {
			if d, err = z.decode(off); err != nil {
				return done, err
			}
			im.last.Store(d)
		}
		k := copy(p[done:], d.b[off-d.start:])
		done += k
		off += uint64(k)
	}
	return done, nil
}

// decode decompresses the stretch that has the byte off.
func (z *zfile) decode(off uint64) (*decoded, error) {
	s, err := z.find(off)
	if err != nil {
		return nil, err
	}
	place, err := z.im.place(z.n, 0, s.off, s.size)
	if err != nil {
		return nil, err
	}
	if place.device != 0 {
		return nil, z.im.Errorf(int64(z.n.Offset), "inode %d: compressed data on a device is not supported", z.n.NID)
	}
	d := &decoded{nid: z.n.NID, stretch: s, b: make([]byte, s.end-s.start)}
	stored := z.im.data[s.off : s.off+s.size]
	if s.kind == clusterPlain {
		err = z.plain(d, stored)
	} else {
		algorithm := z.algorithms[0]
		if s.kind == clusterHead2 {
			algorithm = z.algorithms[1]
		}
		err = decompress(d.b, stored, algorithm, z.im.super.Incompat&IncompatZeroPadding != 0)
	}
	if err != nil {
		return nil, z.im.Errorf(int64(s.off), "inode %d: bytes %d to %d: %v", z.n.NID, s.start, s.end, err)
	}
	return d, nil
}

// plain copies a stretch that is stored as it is: from the start of its
// block or, interlaced, each byte at its place in the block.
func (z *zfile) plain(d *decoded, stored []byte) error {
	if len(d.b) > len(stored) {
		return codec.ErrSize
	}
	if z.advice&adviceInterlaced == 0 {
		copy(d.b, stored)
		return nil
	}
	stored = stored[:min(uint64(len(stored)), z.im.blockSize)]
	if len(d.b) > len(stored) {
		return codec.ErrSize
	}
	k := copy(d.b, stored[d.start%uint64(len(stored)):])
	copy(d.b[k:], stored)
	return nil
}

// decompress fills dst from a physical cluster. Padded data ends where the
// cluster ends and has zeros before; else it begins where the cluster begins,
// and anything may follow.
func decompress(dst, stored []byte, algorithm uint8, padded bool) error {
	if !padded {
		if algorithm != algorithmLZ4 {
			return fmt.Errorf("compression algorithm %d without zero padding", algorithm)
		}
		return lz4Prefix(dst, stored)
	}
	stored = bytes.TrimLeft(stored, "\x00")
	switch algorithm {
	case algorithmLZ4:
		return codec.Decompress(dst, stored, storage.LZ4Block)
	case algorithmDeflate:
		_, err := io.ReadFull(flate.NewReader(bytes.NewReader(stored)), dst)
		return err
	case algorithmZstd:
		return codec.Decompress(dst, stored, storage.Zstd)
	case algorithmLZMA:
		return fmt.Errorf("LZMA compression is not supported")
	}
	return fmt.Errorf("compression algorithm %d is not supported", algorithm)
}
