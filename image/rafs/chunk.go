package rafs

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

// chunk fills in c, a chunk of blob b.
func (i *ChunkInfo) chunk(c *storage.Chunk, b *storage.Blob) error {
	*c = storage.Chunk{
		Blob: b, Offset: int64(i.CompressedOffset), UncompressedOffset: int64(i.UncompressedOffset),
		Size: i.CompressedSize, UncompressedSize: i.UncompressedSize, Index: i.Index, CRC32C: i.CRC,
		Digest: storage.Digest{Sum: i.Digest, Algorithm: b.Digester},
	}
	if i.Flags&ChunkCompressed != 0 {
		c.Flags |= storage.Compressed
	}
	if i.Digest != ([32]byte{}) {
		c.Flags |= storage.HasDigest
	}
	if i.Flags&ChunkHasCRC != 0 {
		c.Flags |= storage.HasCRC32C
	}
	if i.Flags&ChunkEncrypted != 0 {
		c.Flags |= storage.Encrypted
	}
	switch {
	case i.UncompressedSize == 0 || i.UncompressedSize > b.ChunkSize:
		return errors.New("uncompressed size is not within the chunk size")
	case i.UncompressedOffset > 1<<44 || b.UncompressedSize > 0 && i.UncompressedOffset+uint64(i.UncompressedSize) > uint64(b.UncompressedSize):
		return errors.New("uncompressed range ends behind the blob")
	case i.Flags&ChunkEncrypted != 0 && b.Cipher == nil:
		return errors.New("is encrypted, its blob is not")
	}
	return nil
}

// checkStored checks where c is stored; errorf makes the error.
func checkStored(c *storage.Chunk, errorf errorFunc) error {
	b := c.Blob
	limit := b.DataSize
	if limit == 0 {
		limit = 1 << 40
	}
	switch {
	case c.Size == 0 || c.Size > maxStored(b.ChunkSize):
		return errorf(-1, "chunk %d of blob %d: stored size %d", c.Index, b.Index, c.Size)
	case c.Offset < 0 || c.Offset > limit || int64(c.Size) > limit-c.Offset:
		return errorf(-1, "chunk %d of blob %d: stored range %d+%d ends behind the blob", c.Index, b.Index, c.Offset, c.Size)
	case c.Flags&(storage.Compressed|storage.Encrypted) == 0 && c.Size != c.UncompressedSize:
		return errorf(-1, "chunk %d of blob %d: is not compressed but has %d bytes for %d", c.Index, b.Index, c.Size, c.UncompressedSize)
	}
	return nil
}

// maxStored bounds the stored bytes of a chunk: methods of old writers may
// have made it a little larger, gzip streams by a header.
func maxStored(chunkSize uint32) uint32 { return chunkSize + chunkSize/8 + 4096 }

// chunkTable finds records in the chunk table of a v6 bootstrap by blob and
// chunk number. A table in that order needs nothing for it; for any other
// order a hash table is built outside the heap when it is first needed, 8 to
// 16 bytes for each record. It is safe for concurrent use.
type chunkTable struct {
	records []byte
	start   []uint32 // position of the first record of each blob if the table is in order
	hash    atomic.Pointer[mmap.Map]
	build   sync.Mutex
	factor  uint64 // odd and random: an image can not choose what collides
	shift   uint   // of a product: the slots are numbered by its high bits
}

func (t *chunkTable) init(records []byte, blobs []*storage.Blob) {
	t.records = records
	t.factor = rand.Uint64() | 1
	t.shift = 64 - uint(max(4, bits.Len(uint(2*t.len()))))
	t.start = make([]uint32, len(blobs))
	n := uint32(0)
	for i, b := range blobs {
		t.start[i] = n
		n += b.ChunkCount // may wrap: it is only where to look first
	}
}

func (t *chunkTable) len() int { return len(t.records) / ChunkInfoSize }

// at returns record i.
func (t *chunkTable) at(i int) []byte { return t.records[i*ChunkInfoSize:][:ChunkInfoSize] }

func recordKey(record []byte) (blob, index uint32) {
	return binary.LittleEndian.Uint32(record[32:]), binary.LittleEndian.Uint32(record[72:])
}

func (t *chunkTable) is(i int, blob, index uint32) bool {
	b, x := recordKey(t.at(i))
	return b == blob && x == index
}

// find returns the record of chunk index of a blob.
func (t *chunkTable) find(blob int, index uint32) ([]byte, bool) {
	if i := uint64(t.start[blob]) + uint64(index); i < uint64(t.len()) && t.is(int(i), uint32(blob), index) {
		return t.at(int(i)), true
	}
	h := t.hash.Load()
	if h == nil {
		if h = t.index(); h == nil {
			return t.scan(blob, index)
		}
	}
	slots := h.Bytes()
	mask := uint64(len(slots)/4 - 1)
	for s := t.slot(uint32(blob), index); ; s = (s + 1) & mask {
		i := binary.NativeEndian.Uint32(slots[s*4:])
		if i == 0 {
			return nil, false
		}
		if t.is(int(i-1), uint32(blob), index) {
			return t.at(int(i - 1)), true
		}
	}
}

// scan is the way without memory for an index.
func (t *chunkTable) scan(blob int, index uint32) ([]byte, bool) {
	for i := range t.len() {
		if t.is(i, uint32(blob), index) {
			return t.at(i), true
		}
	}
	return nil, false
}

// slot returns where the search for a record starts.
func (t *chunkTable) slot(blob, index uint32) uint64 {
	return (uint64(blob)<<32 | uint64(index)) * t.factor >> t.shift
}

// index builds the hash table: an open-addressed array, at most half full,
// of record numbers plus one. It returns nil if there is no memory.
func (t *chunkTable) index() *mmap.Map {
	t.build.Lock()
	defer t.build.Unlock()
	if h := t.hash.Load(); h != nil {
		return h
	}
	h, err := mmap.Anonymous(4 << (64 - t.shift))
	if err != nil {
		return nil
	}
	slots := h.Bytes()
	mask := uint64(len(slots)/4 - 1)
	for i := range t.len() {
		blob, index := recordKey(t.at(i))
		for s := t.slot(blob, index); ; s = (s + 1) & mask {
			other := binary.NativeEndian.Uint32(slots[s*4:])
			if other == 0 {
				binary.NativeEndian.PutUint32(slots[s*4:], uint32(i+1))
			} else if !t.is(int(other-1), blob, index) {
				continue
			}
			break // the first of records with one key counts
		}
	}
	t.hash.Store(h)
	return h
}

func (t *chunkTable) close() error {
	if h := t.hash.Swap(nil); h != nil {
		return h.Close()
	}
	return nil
}
