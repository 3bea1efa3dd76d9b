package rafs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"runtime/debug"
	"sort"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

// Inline reports that the data of regular files is on blobs.
func (t *V5) Inline(p []byte, nid uint64, off int64) (int, bool, error) {
	return 0, false, nil
}

// Extents appends the extents of the regular file nid that cover
// [off, off+n).
func (t *V5) Extents(dst []storage.Extent, nid uint64, off, n int64) (ext []storage.Extent, err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	ext = dst
	var in inodeV5
	if err := t.inode(nid, &in); err != nil {
		return dst, err
	}
	if in.Mode&image.TypeMask != image.TypeRegular {
		return dst, t.errorf(int64(in.off), "inode %d is not a regular file", nid)
	}
	start, end, ok := erofs.Range(off, n, in.Size)
	if !ok {
		return dst, nil
	}
	if t.flags&VariableChunks != 0 {
		return t.variable(ext, &in, start, end)
	}
	shift := uint(bits.TrailingZeros32(t.chunkSize))
	for start < end {
		i := start >> shift
		base := i << shift
		stop := min(end, base+uint64(t.chunkSize))
		ext, err = t.appendChunk(ext, &in, i, base, start, stop)
		if err != nil {
			return ext, err
		}
		start = stop
	}
	return ext, nil
}

// variable appends the extents of [start, end) of n, whose chunks follow one
// another without gaps, whatever size each has.
func (t *V5) variable(dst []storage.Extent, n *inodeV5, start, end uint64) (ext []storage.Extent, err error) {
	count := len(n.chunks) / ChunkInfoSize
	base := func(i int) uint64 {
		if i == count {
			return n.Size
		}
		return binary.LittleEndian.Uint64(n.chunks[i*ChunkInfoSize+chunkFileOffset:])
	}
	// The last chunk that begins at or before start.
	i, found := sort.Find(count, func(i int) int { return cmp.Compare(start, base(i)) })
	if !found {
		i--
	}
	for ext = dst; start < end; i++ {
		if i < 0 || i >= count {
			return ext, t.errorf(int64(n.off), "inode %d: no chunk has byte %d", n.slot, start)
		}
		at, next := base(i), base(i+1)
		size := uint64(binary.LittleEndian.Uint32(n.chunks[i*ChunkInfoSize+chunkSizeOffset:]))
		if next <= at || next-at != size || start < at || start >= next {
			return ext, t.errorf(int64(n.off), "inode %d: chunk %d has %d bytes and is for %d to %d of the file", n.slot, i, size, at, next)
		}
		stop := min(end, next)
		if ext, err = t.appendChunk(ext, n, uint64(i), at, start, stop); err != nil {
			return ext, err
		}
		start = stop
	}
	return ext, nil
}

// appendChunk appends the bytes [start, stop) of n, which lie in chunk i,
// whose first byte is that at base.
func (t *V5) appendChunk(dst []storage.Extent, n *inodeV5, i, base, start, stop uint64) ([]storage.Extent, error) {
	info, _ := ParseChunkInfo(n.chunks[i*ChunkInfoSize:])
	t.number(&info)
	if info.Flags&ChunkHole != 0 {
		return erofs.AppendHole(dst, int64(start), int64(stop-start)), nil
	}
	switch {
	case info.FileOffset != base:
		return dst, t.errorf(int64(n.off), "inode %d: chunk %d is for byte %d of the file", n.slot, i, info.FileOffset)
	case info.Blob >= uint32(len(t.blobs)):
		return dst, t.errorf(int64(n.off), "inode %d: chunk %d names blob %d of %d", n.slot, i, info.Blob, len(t.blobs))
	case info.Index >= t.blobs[info.Blob].ChunkCount:
		return dst, t.errorf(int64(n.off), "inode %d: chunk %d is number %d of the %d in its blob", n.slot, i, info.Index, t.blobs[info.Blob].ChunkCount)
	case uint64(info.UncompressedSize) < stop-base:
		return dst, t.errorf(int64(n.off), "inode %d: chunk %d has %d bytes, the file needs %d", n.slot, i, info.UncompressedSize, stop-base)
	}
	dst = append(dst, storage.Extent{FileOffset: int64(start), Length: int64(stop - start), ChunkOffset: uint32(start - base)})
	c := &dst[len(dst)-1].Chunk
	if err := info.chunk(c, t.blobs[info.Blob]); err != nil {
		return dst[:len(dst)-1], t.errorf(int64(n.off), "inode %d: chunk %d: %v", n.slot, i, err)
	}
	if err := checkStored(c, t.errorf); err != nil {
		return dst[:len(dst)-1], err
	}
	return dst, nil
}

// nextXattr takes the first attribute off b: a length, the name, a NUL and
// the value. An empty name says that there is none left.
func (t *V5) nextXattr(n *inodeV5, b []byte) (name, value, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, nil, nil
	}
	size := uint64(binary.LittleEndian.Uint32(b))
	if size == 0 {
		return nil, nil, nil, nil // padding
	}
	if size > uint64(len(b)-4) {
		return nil, nil, nil, t.errorf(int64(n.off), "inode %d: xattr of %d bytes in %d", n.slot, size, len(b)-4)
	}
	pair := b[4 : 4+size]
	end := bytes.IndexByte(pair, 0)
	if end <= 0 || end > erofs.MaxNameLen {
		return nil, nil, nil, t.errorf(int64(n.off), "inode %d: xattr has no name", n.slot)
	}
	return pair[:end], pair[end+1:], b[4+size:], nil
}

// Xattr returns the value of the attribute with the full name.
func (t *V5) Xattr(nid uint64, name string) (value []byte, err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n inodeV5
	if err := t.inode(nid, &n); err != nil {
		return nil, err
	}
	for rest := n.xattrs; ; {
		var got []byte
		got, value, rest, err = t.nextXattr(&n, rest)
		switch {
		case err != nil:
			return nil, err
		case got == nil:
			return nil, image.ErrNoXattr
		case string(got) == name:
			mmap.Touch(value)
			return value, nil
		}
	}
}

// ListXattr calls f for the attributes of nid until f returns false; the
// prefix is always empty.
func (t *V5) ListXattr(nid uint64, f func(prefix string, suffix []byte) bool) (err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n inodeV5
	if err := t.inode(nid, &n); err != nil {
		return err
	}
	for rest := n.xattrs; ; {
		var name []byte
		name, _, rest, err = t.nextXattr(&n, rest)
		if err != nil || name == nil || !f("", name) {
			return err
		}
	}
}
