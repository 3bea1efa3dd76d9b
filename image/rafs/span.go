package rafs

import (
	"bytes"
	"github.com/sluicefs/sluice/image"
	"runtime/debug"

	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// Span returns the bytes of the image that the inode nid takes up: itself,
// its xattrs, and the inline tail or the chunk indexes behind, of which there
// are as many as the image's chunk size makes.
func (t *V6) Span(nid uint64) (start, end uint64, err error) {
	defer t.Guard(&err, debug.SetPanicOnFault(true))
	var n erofs.Node
	if err := t.Node(nid, &n); err != nil {
		return 0, 0, err
	}
	if n.Layout != erofs.ChunkBased {
		return t.Image.Span(nid)
	}
	size := uint64(t.ext.ChunkSize)
	table, err := t.ChunkTable(&n, 8, (n.Size+size-1)/size)
	return n.Offset, (n.End()+7)&^7 + uint64(len(table)), err
}

// Span returns the bytes of the image that the inode nid takes up, with its
// name, link target, xattrs and chunk records.
func (t *V5) Span(nid uint64) (start, end uint64, err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n inodeV5
	if err := t.inode(nid, &n); err != nil {
		return 0, 0, err
	}
	return n.off, n.off + uint64(n.size), nil
}

// CheckDigest compares the digest that the inode nid has with what it is of:
// the digests of its chunks or children, or the link target.
func (t *V5) CheckDigest(nid uint64) (err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n, child inodeV5
	if err := t.inode(nid, &n); err != nil {
		return err
	}
	var of []byte
	switch n.Mode & image.TypeMask {
	case image.TypeSymlink:
		of = n.target
	case image.TypeRegular:
		for b := n.chunks; len(b) > 0; b = b[ChunkInfoSize:] {
			of = append(of, b[:32]...)
		}
	case image.TypeDirectory:
		for i := range uint64(n.childCount) {
			if err := t.inode(uint64(n.childIndex)+i, &child); err != nil {
				return err
			}
			of = append(of, child.digest...)
		}
	}
	if got := codec.Sum(of, t.digester); !bytes.Equal(got.Sum[:], n.digest) {
		return t.errorf(int64(n.off), "inode %d: digest is not that of what it holds", nid)
	}
	return nil
}

// Records calls f for each record of the chunk table in turn, with the error
// that a look-up of the chunk would give, until f returns false.
func (t *V6) Records(f func(c *storage.Chunk, err error) bool) (err error) {
	defer t.Guard(&err, debug.SetPanicOnFault(true))
	for i := range t.chunks.len() {
		blob, index := recordKey(t.chunks.at(i))
		var c storage.Chunk
		var bad error
		if blob >= uint32(len(t.blobs)) {
			bad = t.Errorf(-1, "chunk table: record %d: blob %d of %d", i, blob, len(t.blobs))
		} else if bad = t.fromRecord(&c, t.chunks.at(i), int(blob)); bad == nil && t.infos[blob].needMeta() {
			bad = t.chunk(&c, int(blob), index)
		}
		if !f(&c, bad) {
			return nil
		}
	}
	return nil
}
