package erofs

import (
	"bytes"
	"encoding/binary"
	"github.com/sluicefs/sluice/image"
	"math"
	"runtime/debug"

	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

// flat returns the bytes [start, start+size) of n, whose data lies flat in
// the image, and their place. The range does not cross the start of the
// inline tail.
func (im *Image) flat(n *Node, start, size uint64) ([]byte, uint64, error) {
	var off uint64
	tail := n.Size &^ (im.blockSize - 1)
	switch {
	case n.Layout == FlatInline && start >= tail:
		off = n.End() + start - tail
		if off&^(im.blockSize-1) != (off+size-1)&^(im.blockSize-1) && size > 0 {
			return nil, 0, im.Errorf(int64(n.Offset), "inode %d: inline data crosses a block", n.NID)
		}
	case n.Layout == FlatInline && start+size > tail:
		return nil, 0, im.Errorf(int64(n.Offset), "inode %d: data is in two places", n.NID)
	case n.Layout == FlatPlain || n.Layout == FlatInline:
		off = uint64(n.Union)<<im.super.BlockBits + start
	default:
		return nil, 0, im.Errorf(int64(n.Offset), "inode %d: layout %d is not supported for this file type", n.NID, n.Layout)
	}
	if off > uint64(len(im.data)) || size > uint64(len(im.data))-off {
		return nil, 0, im.Errorf(int64(n.Offset), "inode %d: data ends behind the image", n.NID)
	}
	return im.data[off : off+size], off, nil
}

// Readlink returns the target of a symbolic link. It allocates only where
// the target is longer than a block.
func (im *Image) Readlink(nid uint64) (target []byte, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.typed(nid, &n, image.TypeSymlink, "symbolic link"); err != nil {
		return nil, err
	}
	tail := n.Size &^ (im.blockSize - 1)
	if n.Layout == FlatInline && tail > 0 && tail < n.Size {
		head, _, err := im.flat(&n, 0, tail)
		if err != nil {
			return nil, err
		}
		rest, _, err := im.flat(&n, tail, n.Size-tail)
		if err != nil {
			return nil, err
		}
		target = append(bytes.Clone(head), rest...)
	} else if target, _, err = im.flat(&n, 0, n.Size); err != nil {
		return nil, err
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return nil, im.Errorf(int64(n.Offset), "inode %d: target of the symbolic link is empty or has a NUL", nid)
	}
	mmap.Touch(target)
	return target, nil
}

// piece is a run of bytes of a file that lie together.
type piece struct {
	device int    // 0 for the image itself, else from 1; -1 for a hole
	off    uint64 // byte in the device
	size   uint64 // bytes up to the end of the file, of the tail or of the chunk
}

// locate says where the byte off of the regular file n is, off being less
// than the size.
func (im *Image) locate(n *Node, off uint64) (piece, error) {
	switch n.Layout {
	case FlatInline:
		if tail := n.Size &^ (im.blockSize - 1); off >= tail {
			if _, at, err := im.flat(n, off, n.Size-off); err != nil {
				return piece{}, err
			} else {
				return piece{0, at, n.Size - off}, nil
			}
		} else {
			return im.place(n, 0, uint64(n.Union)<<im.super.BlockBits+off, tail-off)
		}
	case FlatPlain:
		return im.place(n, 0, uint64(n.Union)<<im.super.BlockBits+off, n.Size-off)
	case ChunkBased:
		return im.locateChunk(n, off)
	}
	return piece{}, im.Errorf(int64(n.Offset), "inode %d: compressed data has no place of its own", n.NID)
}

// place resolves an address that may be that of a device in the flattened
// view, and checks the bounds.
func (im *Image) place(n *Node, device int, off, size uint64) (piece, error) {
	limit := uint64(len(im.data))
	if device == 0 {
		for i := range im.devices {
			d := &im.devices[i]
			start := uint64(d.Mapped) << im.super.BlockBits
			if d.Mapped != 0 && off >= start && off-start < uint64(d.Blocks)<<im.super.BlockBits {
				device, off = i+1, off-start
				break
			}
		}
	}
	if device > len(im.devices) {
		return piece{}, im.Errorf(int64(n.Offset), "inode %d: device %d of %d", n.NID, device, len(im.devices))
	}
	if device > 0 {
		limit = uint64(im.blobs[device-1].UncompressedSize)
		if limit == 0 {
			return piece{}, im.Errorf(-1, "the image does not say how large device %d is", device)
		}
	}
	if off > limit || size > limit-off {
		return piece{}, im.Errorf(int64(n.Offset), "inode %d: data ends behind device %d", n.NID, device)
	}
	return piece{device, off, size}, nil
}

// ChunkTable returns the array of count chunk addresses behind the inode n,
// each of entrySize bytes.
func (im *Image) ChunkTable(n *Node, entrySize, count uint64) ([]byte, error) {
	start := (n.End() + entrySize - 1) &^ (entrySize - 1)
	if start > uint64(len(im.data)) || count > (uint64(len(im.data))-start)/entrySize {
		return nil, im.Errorf(int64(n.Offset), "inode %d: the addresses of its %d chunks end behind the image", n.NID, count)
	}
	return im.data[start : start+count*entrySize], nil
}

// locateChunk finds the chunk of n that has the byte off.
func (im *Image) locateChunk(n *Node, off uint64) (piece, error) {
	format := n.Union
	if format&^(ChunkBlockBits|ChunkIndexes) != 0 {
		return piece{}, im.Errorf(int64(n.Offset), "inode %d: chunk format %#x is not supported", n.NID, format)
	}
	bits := uint(format&ChunkBlockBits) + uint(im.super.BlockBits)
	i := off >> bits
	entry := uint64(4)
	if format&ChunkIndexes != 0 {
		entry = 8
	}
	table, err := im.ChunkTable(n, entry, i+1)
	if err != nil {
		return piece{}, err
	}
	b := table[i*entry:]
	in := off - i<<bits
	size := min(uint64(1)<<bits-in, n.Size-off)
	device, addr := 0, binary.LittleEndian.Uint32(b)
	if entry == 8 {
		device = int(binary.LittleEndian.Uint16(b[2:]) & im.devMask)
		addr = binary.LittleEndian.Uint32(b[4:])
	}
	if addr == NullAddr {
		return piece{device: -1, size: size}, nil
	}
	return im.place(n, device, uint64(addr)<<im.super.BlockBits+in, size)
}

// Inline copies the bytes of a regular file from off on into p, if all of
// its data is in the image itself and not on a device.
func (im *Image) Inline(p []byte, nid uint64, off int64) (n int, inline bool, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var node Node
	if err := im.Regular(nid, &node); err != nil {
		return 0, false, err
	}
	if off < 0 {
		return 0, false, im.Errorf(-1, "negative offset %d", off)
	}
	own, err := im.own(&node)
	if err != nil || !own {
		return 0, false, err
	}
	if node.compressed() {
		n, err = im.readCompressed(p, &node, uint64(off))
		return n, true, err
	}
	for n < len(p) && uint64(off) < node.Size {
		at, err := im.locate(&node, uint64(off))
		if err != nil {
			return n, true, err
		}
		size := int(min(at.size, uint64(len(p)-n)))
		switch at.device {
		case -1:
			clear(p[n : n+size])
		case 0:
			copy(p[n:n+size], im.data[at.off:])
		default:
			return n, true, im.Errorf(int64(node.Offset), "inode %d: a file that is partly in the image and partly on a device is not supported", nid)
		}
		n += size
		off += int64(size)
	}
	return n, true, nil
}

// own reports whether the data of n is in the image itself. In an image with
// devices, chunk-based files are on these.
func (im *Image) own(n *Node) (bool, error) {
	if len(im.devices) == 0 || n.Size == 0 {
		return true, nil
	}
	if n.Layout == ChunkBased {
		return false, nil
	}
	if n.compressed() {
		return true, nil
	}
	at, err := im.locate(n, 0)
	return at.device == 0, err
}

// Extents appends where the bytes [off, off+n) of the regular file nid are on
// the devices; files whose data is in the image itself have none.
func (im *Image) Extents(dst []storage.Extent, nid uint64, off, n int64) (ext []storage.Extent, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var node Node
	if err := im.Regular(nid, &node); err != nil {
		return dst, err
	}
	start, end, ok := Range(off, n, node.Size)
	if !ok {
		return dst, nil
	}
	own, err := im.own(&node)
	if err != nil || own {
		return dst, err
	}
	for start < end {
		at, err := im.locate(&node, start)
		if err != nil {
			return dst, err
		}
		size := min(at.size, end-start)
		switch at.device {
		case -1:
			dst = AppendHole(dst, int64(start), int64(size))
		case 0:
			return dst, im.Errorf(int64(node.Offset), "inode %d: a file that is partly in the image and partly on a device is not supported", nid)
		default:
			dst = AppendRange(dst, im.blobs[at.device-1], int64(start), int64(at.off), int64(size))
		}
		start += size
	}
	return dst, nil
}

// Range cuts [off, off+n) to a file of size bytes; false if nothing is left.
func Range(off, n int64, size uint64) (start, end uint64, ok bool) {
	if off < 0 || n <= 0 || uint64(off) >= size {
		return 0, 0, false
	}
	end = size
	if n <= math.MaxInt64-off {
		end = min(end, uint64(off+n))
	}
	return uint64(off), end, true
}

// AppendHole appends a hole, or makes the one at the end of dst longer.
func AppendHole(dst []storage.Extent, fileOff, n int64) []storage.Extent {
	if k := len(dst) - 1; k >= 0 && dst[k].Hole() && dst[k].FileOffset+dst[k].Length == fileOff {
		dst[k].Length += n
		return dst
	}
	return append(dst, storage.Extent{FileOffset: fileOff, Length: n})
}

// AppendRange appends the bytes [off, off+n) of a blob that is stored as it
// is and has no chunk records: its chunks are pieces of ChunkSize bytes. What
// lies behind the end of the blob is left out.
func AppendRange(dst []storage.Extent, blob *storage.Blob, fileOff, off, n int64) []storage.Extent {
	size := int64(blob.ChunkSize)
	for n > 0 {
		i := off / size
		start := i * size
		chunk := min(size, blob.UncompressedSize-start)
		length := min(n, start+chunk-off)
		if length <= 0 {
			return dst
		}
		dst = append(dst, storage.Extent{
			FileOffset: fileOff, Length: length, ChunkOffset: uint32(off - start),
			Chunk: storage.Chunk{
				Blob: blob, Offset: start, UncompressedOffset: start,
				Size: uint32(chunk), UncompressedSize: uint32(chunk), Index: uint32(i),
			},
		})
		fileOff, off, n = fileOff+length, off+length, n-length
	}
	return dst
}
