package rafs

import "slices"

// measureBlobs finds out from all chunk records what an image of an old
// writer, without an extended blob table, does not say: how large each blob
// is and how many chunks it has. Such images do not number their chunks
// either; the number is then the chunk's rank by its place in the blob.
func (t *V5) measureBlobs() error {
	t.places = make([][]uint64, len(t.blobs))
	var n inodeV5
	left := len(t.data) / ChunkInfoSize // as many records as there can be
	for slot := range uint64(len(t.table) / 4) {
		if err := t.inode(slot+1, &n); err != nil {
			return err
		}
		if left -= len(n.chunks) / ChunkInfoSize; left < 0 {
			return t.errorf(int64(n.off), "inode %d: shares its chunk records with others", slot+1)
		}
		for ; len(n.chunks) > 0; n.chunks = n.chunks[ChunkInfoSize:] {
			if err := t.measureChunk(&n); err != nil {
				return err
			}
		}
	}
	for i, p := range t.places {
		slices.Sort(p)
		t.places[i] = slices.Compact(p)
		if len(t.places[i]) > MaxChunks {
			return t.errorf(-1, "blob %d has more than %d chunks", i, MaxChunks)
		}
		t.blobs[i].ChunkCount = uint32(len(t.places[i]))
	}
	return nil
}

// measureChunk takes note of the first chunk record of n.
func (t *V5) measureChunk(n *inodeV5) error {
	c, _ := ParseChunkInfo(n.chunks)
	if c.Blob >= uint32(len(t.blobs)) || c.CompressedOffset > 1<<40 || c.UncompressedOffset > 1<<44 {
		return t.errorf(int64(n.off), "inode %d: chunk at %d of blob %d of %d is out of range", n.slot, c.CompressedOffset, c.Blob, len(t.blobs))
	}
	b := t.blobs[c.Blob]
	b.DataSize = max(b.DataSize, int64(c.CompressedOffset)+int64(c.CompressedSize))
	b.UncompressedSize = max(b.UncompressedSize, int64(c.UncompressedOffset)+int64(c.UncompressedSize))
	t.places[c.Blob] = append(t.places[c.Blob], c.CompressedOffset)
	return nil
}

// number sets the index of a chunk whose image does not number its chunks.
func (t *V5) number(c *ChunkInfo) {
	if t.places == nil || c.Blob >= uint32(len(t.places)) {
		return
	}
	i, _ := slices.BinarySearch(t.places[c.Blob], c.CompressedOffset)
	c.Index = uint32(i)
}
