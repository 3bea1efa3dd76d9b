package cache

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/sluicefs/sluice/storage"
)

// The index of a blob, "<name>.blob.data.index": a header of 4096 bytes,
// from indexRecords on one record of 64 bytes for each chunk, by the chunk's
// index, and from indexOwners on one little-endian uint32 for each 4 KiB of
// the data file, which is the index plus 1 of the chunk that may write
// there. Both tables are sparse. See docs/formats/cache.md.
const (
	indexMagic   = "SLCCIDX1"
	indexRecords = 4096
	indexOwners  = 1 << 31
	recordSize   = 64
	maxChunks    = 1 << 24
	ownerBlock   = 4096
)

// state is what a record says of its chunk's data.
type state uint8

const (
	absent  state = 0
	written state = 1 // in the page cache of the boot in the record, maybe not on disk
	synced  state = 2 // on disk
)

// Flags of a record.
const (
	ownDigest = 1 << iota // the digest was made by the cache: the image has none
	inExtra               // the data lies in the extra file, at extraOffset
)

// record is one chunk in the index.
type record struct {
	state  state
	flags  uint16
	boot   uint64 // with written
	offset int64  // UncompressedOffset of the chunk
	size   uint32
	digest storage.Digest
	access uint32 // last use, minutes since 1970; not covered by the checksum
}

var recordTable = crc32.MakeTable(crc32.Castagnoli)

// append appends the record: 0 state, 1 algorithm, 2 flags, 4 checksum,
// 8 boot, 16 offset, 24 size, 28 access, 32 digest. The checksum is also over
// id, the identity of the data file: a record says nothing of another file.
func (r *record) append(b []byte, id uint64) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = append(b, byte(r.state), byte(r.digest.Algorithm))
	b = le.AppendUint16(b, r.flags)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, r.boot)
	b = le.AppendUint64(b, uint64(r.offset))
	b = le.AppendUint32(b, r.size)
	b = le.AppendUint32(b, r.access)
	b = append(b, r.digest.Sum[:]...)
	le.PutUint32(b[at+4:], recordSum(b[at:at+recordSize], id))
	return b
}

func recordSum(b []byte, id uint64) uint32 {
	s := crc32.Update(0, recordTable, binary.LittleEndian.AppendUint64(nil, id))
	s = crc32.Update(s, recordTable, b[:4])
	s = crc32.Update(s, recordTable, b[8:28])
	return crc32.Update(s, recordTable, b[32:recordSize])
}

// parseRecord decodes the first 64 bytes of b. Anything that is not a sound
// record of the data file with identity id is absent.
func parseRecord(b []byte, id uint64) (r record) {
	le := binary.LittleEndian
	if len(b) < recordSize {
		return r
	}
	s := state(b[0])
	if s != written && s != synced || le.Uint32(b[4:]) != recordSum(b[:recordSize], id) {
		return r
	}
	r = record{
		state:  s,
		flags:  le.Uint16(b[2:]),
		boot:   le.Uint64(b[8:]),
		offset: int64(le.Uint64(b[16:])),
		size:   le.Uint32(b[24:]),
		access: le.Uint32(b[28:]),
	}
	r.digest.Algorithm = storage.Algorithm(b[1])
	copy(r.digest.Sum[:], b[32:])
	if r.offset < 0 || r.size == 0 || r.size > maxChunkSize || r.digest.Algorithm > storage.SHA256 {
		return record{}
	}
	return r
}

// matches reports whether the record is about this very chunk.
func (r *record) matches(ch *storage.Chunk) bool {
	if r.state == absent || r.offset != ch.UncompressedOffset || r.size != ch.UncompressedSize {
		return false
	}
	if ch.Flags&storage.HasDigest != 0 {
		return r.flags&ownDigest == 0 && r.digest == ch.Digest
	}
	return r.flags&ownDigest != 0
}

// header is the first block of an index.
type header struct {
	gen uint64 // raised when a record of a blob in use was withdrawn
}

const headerSize = 8 + 8 + 4

func (h *header) append(b []byte) []byte {
	at := len(b)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint64(b, h.gen)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], recordTable))
}

func parseHeader(b []byte) (h header, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != indexMagic ||
		le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], recordTable) {
		return h, false
	}
	return header{gen: le.Uint64(b[8:])}, true
}
