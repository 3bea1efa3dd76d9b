package erofs

import "runtime/debug"

// Span returns the bytes of the image that the inode nid takes up: itself,
// its xattrs, and the inline tail or the chunk addresses behind.
func (im *Image) Span(nid uint64) (start, end uint64, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.Node(nid, &n); err != nil {
		return 0, 0, err
	}
	end = n.End()
	switch n.Layout {
	case FlatInline:
		end += n.Size & (im.blockSize - 1)
	case ChunkBased:
		bits := uint(n.Union&ChunkBlockBits) + uint(im.super.BlockBits)
		entry := uint64(4)
		if n.Union&ChunkIndexes != 0 {
			entry = 8
		}
		end, err = im.chunkEnd(&n, entry, (n.Size+1<<bits-1)>>bits)
	}
	return n.Offset, end, err
}

// chunkEnd returns the byte behind the count chunk addresses of n.
func (im *Image) chunkEnd(n *Node, entry, count uint64) (uint64, error) {
	table, err := im.ChunkTable(n, entry, count)
	start := (n.End() + entry - 1) &^ (entry - 1)
	return start + uint64(len(table)), err
}
