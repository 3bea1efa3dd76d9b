package rafs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluicefs/sluice/storage"
)

// Meta is the chunk information that a blob of v6 holds itself, "blob.meta":
// where each chunk is stored, and the groups that batch chunks and the chunks
// of a gzip stream belong to.
type Meta struct {
	Header  MetaHeader
	entries []byte
	groups  []storage.Group
	digests []byte // 32 bytes for each chunk, or nil
	release func() error
}

// Sizes of entries and contexts, in bytes.
const (
	entryV1Size = 16
	entryV2Size = 24
	contextSize = 40
	maxDict     = 32768
)

// ParseMeta takes apart table, the uncompressed table that h describes. The
// result refers to table.
func ParseMeta(h MetaHeader, table []byte) (*Meta, error) {
	size := uint64(entryV1Size)
	if h.Features&BlobChunkInfoV2 != 0 {
		size = entryV2Size
	}
	if h.Entries > MaxChunks || uint64(h.Entries)*size > uint64(len(table)) {
		return nil, fmt.Errorf("blob.meta: %d entries in a table of %d bytes", h.Entries, len(table))
	}
	m := &Meta{Header: h, entries: table[:uint64(h.Entries)*size]}
	if h.Features&(BlobZran|BlobBatch) == 0 {
		return m, nil
	}
	n := uint64(len(table))
	if h.ContextStart < uint64(len(m.entries)) || h.ContextStart > n || h.ContextSize > n-h.ContextStart ||
		uint64(h.Contexts) > h.ContextSize/contextSize {
		return nil, fmt.Errorf("blob.meta: %d contexts in %d bytes at %d of a table of %d bytes", h.Contexts, h.ContextSize, h.ContextStart, n)
	}
	b := table[h.ContextStart:][:h.ContextSize]
	m.groups = make([]storage.Group, h.Contexts)
	for i := range m.groups {
		g, err := parseContext(h.Features, b[i*contextSize:], b[int(h.Contexts)*contextSize:])
		if err != nil {
			return nil, fmt.Errorf("blob.meta: context %d: %w", i, err)
		}
		g.Index = uint32(i)
		m.groups[i] = g
	}
	if h.Features&BlobZran == 0 {
		m.placeBatches()
	}
	return m, nil
}

// parseContext decodes the context at the start of b; dicts are the
// dictionaries of all.
func parseContext(f BlobFeatures, b, dicts []byte) (g storage.Group, err error) {
	le := binary.LittleEndian
	if f&BlobZran == 0 {
		g.Size, g.UncompressedSize = le.Uint32(b), le.Uint32(b[4:])
		if g.Size == 0 || g.UncompressedSize == 0 || g.UncompressedSize > MaxChunkSize || g.Size > maxStored(MaxChunkSize) {
			return g, errors.New("size of a batch")
		}
		return g, nil
	}
	in, out, dict := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
	g = storage.Group{
		Offset: int64(in), Size: le.Uint32(b[24:]), UncompressedSize: le.Uint32(b[28:]), Base: int64(out),
		Deflate: true, BitsByte: b[36], Bits: b[37],
	}
	n := uint64(le.Uint32(b[32:]))
	switch {
	case in > 1<<40 || out > 1<<44:
		return g, errors.New("offset is too large")
	case g.Size == 0 || g.UncompressedSize == 0 || g.Size > 1<<28 || g.UncompressedSize > 1<<28:
		return g, errors.New("size of a stretch")
	case g.Bits > 7:
		return g, errors.New("more than 7 bits of a byte")
	case n > maxDict || dict > uint64(len(dicts)) || n > uint64(len(dicts))-dict:
		return g, errors.New("dictionary is not within the table")
	}
	if n > 0 {
		g.Dictionary = dicts[dict : dict+n : dict+n]
	}
	return g, nil
}

// AppendZranContext appends the context of g, a point of a gzip stream, whose
// dictionary is at dict in what follows the contexts.
func AppendZranContext(b []byte, g *storage.Group, dict uint64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(g.Offset))
	b = le.AppendUint64(b, uint64(g.Base))
	b = le.AppendUint64(b, dict)
	b = le.AppendUint32(b, g.Size)
	b = le.AppendUint32(b, g.UncompressedSize)
	b = le.AppendUint32(b, uint32(len(g.Dictionary)))
	return append(b, g.BitsByte, g.Bits, 0, 0)
}

// placeBatches sets where batches are stored, which only their chunks tell.
func (m *Meta) placeBatches() {
	for i := range m.Header.Entries {
		e := m.entry(i)
		if e.flags&entryBatch != 0 && e.group < uint32(len(m.groups)) {
			g := &m.groups[e.group]
			if g.Offset = int64(e.offset); e.groupOffset == 0 {
				g.Base = int64(e.uncompressedOffset)
			}
		}
	}
}

// Flags of an entry of version 2.
const (
	entryCompressed = 0x1
	entryZran       = 0x2
	entryBatch      = 0x4
	entryEncrypted  = 0x8
	entryCRC        = 0x10
)

// entry is the information of one chunk, of either version.
type entry struct {
	offset, uncompressedOffset uint64
	size, uncompressedSize     uint32
	flags                      uint8
	group, groupOffset, crc    uint32
}

// entry decodes entry i, which is less than Header.Entries.
func (m *Meta) entry(i uint32) (e entry) {
	le := binary.LittleEndian
	if m.Header.Features&BlobChunkInfoV2 == 0 {
		b := m.entries[int(i)*entryV1Size:]
		u, c := le.Uint64(b), le.Uint64(b[8:])
		e = entry{
			offset: c & 0xff_ffff_ffff, uncompressedOffset: u & 0xfff_ffff_f000,
			size:             uint32(c>>44|c&0xf00_0000_0000>>20) + 1,
			uncompressedSize: uint32(u>>44|u&0xf00<<12) + 1,
		}
		if e.size != e.uncompressedSize {
			e.flags = entryCompressed
		}
		return e
	}
	b := m.entries[int(i)*entryV2Size:]
	u, c, d := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
	e = entry{
		offset: c & 0xff_ffff_ffff, size: uint32(c >> 40 & 0xffffff),
		uncompressedOffset: u & 0xffffffff << 12, uncompressedSize: uint32(u>>32&0xffffff) + 1,
		flags: uint8(u >> 56),
	}
	switch {
	case e.flags&(entryZran|entryBatch) != 0:
		e.group, e.groupOffset = uint32(d>>32), uint32(d)
	case e.flags&entryCRC != 0:
		e.crc = uint32(d)
	}
	return e
}

// errorFunc makes the error of an image; the offset is -1 if it is not one
// place.
type errorFunc func(offset int64, format string, args ...any) error

// fill sets in c where chunk i of a blob is stored. A digest that c has stays.
func (m *Meta) fill(c *storage.Chunk, b *storage.Blob, i uint32, errorf errorFunc) error {
	if i >= m.Header.Entries || i >= b.ChunkCount {
		return errorf(-1, "blob %d has no chunk %d", b.Index, i)
	}
	digest, has := c.Digest, c.Flags&storage.HasDigest
	if has == 0 && m.digests != nil {
		digest = storage.Digest{Sum: [32]byte(m.digests[int(i)*32:]), Algorithm: b.Digester}
		has = storage.HasDigest
	}
	e := m.entry(i)
	*c = storage.Chunk{
		Blob: b, Index: i, Offset: int64(e.offset), Size: e.size,
		UncompressedOffset: int64(e.uncompressedOffset), UncompressedSize: e.uncompressedSize,
		CRC32C: e.crc, Digest: digest, Flags: has,
	}
	if e.flags&entryCompressed != 0 {
		c.Flags |= storage.Compressed
	}
	if e.flags&entryEncrypted != 0 {
		c.Flags |= storage.Encrypted
	}
	if e.flags&entryCRC != 0 && e.flags&entryBatch == 0 {
		c.Flags |= storage.HasCRC32C
	}
	switch {
	case c.UncompressedSize > b.ChunkSize:
		return errorf(-1, "blob.meta: chunk %d of blob %d: %d bytes are more than the chunk size", i, b.Index, c.UncompressedSize)
	case c.UncompressedOffset > b.UncompressedSize || int64(c.UncompressedSize) > b.UncompressedSize-c.UncompressedOffset:
		return errorf(-1, "blob.meta: chunk %d of blob %d: uncompressed range ends behind the blob", i, b.Index)
	case e.flags&entryEncrypted != 0 && b.Cipher == nil:
		return errorf(-1, "blob.meta: chunk %d of blob %d: is encrypted, its blob is not", i, b.Index)
	case e.flags&(entryZran|entryBatch) != 0:
		return m.fillGroup(c, &e, errorf)
	}
	return checkStored(c, errorf)
}

func (m *Meta) fillGroup(c *storage.Chunk, e *entry, errorf errorFunc) error {
	if e.group >= uint32(len(m.groups)) {
		return errorf(-1, "blob.meta: chunk %d of blob %d: context %d of %d", c.Index, c.Blob.Index, e.group, len(m.groups))
	}
	g := &m.groups[e.group]
	if e.groupOffset > g.UncompressedSize || c.UncompressedSize > g.UncompressedSize-e.groupOffset {
		return errorf(-1, "blob.meta: chunk %d of blob %d: does not lie in context %d", c.Index, c.Blob.Index, e.group)
	}
	if limit := c.Blob.DataSize; limit > 0 && (g.Offset > limit || int64(g.Size) > limit-g.Offset) {
		return errorf(-1, "blob.meta: context %d ends behind blob %d", e.group, c.Blob.Index)
	}
	c.Group, c.GroupOffset = g, e.groupOffset
	c.Flags |= storage.InGroup
	return nil
}

// Close gives back what the table lies in.
func (m *Meta) Close() error {
	if m.release == nil {
		return nil
	}
	return m.release()
}
