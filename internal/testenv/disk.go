package testenv

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"unicode/utf16"
)

// Partition is one of a [Partitioned] disk.
type Partition struct {
	Blob string // up to 36 characters, or 64 hexadecimal digits
	Data []byte
}

const (
	sector    = 512
	firstData = 64 // sectors before the first partition
	entrySize = 128
	idDigits  = 64
)

// basicData is the type of a partition whose name alone counts, as stored.
const basicData = "\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7"

// Partitioned returns the bytes of a disk with a GUID partition table: UEFI 2.10,
// section 5.3, but without the second table at its end. Partitions are padded
// with zeros to whole sectors.
func Partitioned(parts ...Partition) []byte {
	le := binary.LittleEndian
	var entries, data []byte
	for _, p := range parts {
		e := make([]byte, entrySize)
		name := p.Blob
		if len(name) == idDigits {
			e[0] = 1 // some type
			raw, _ := hex.DecodeString(name[32:])
			for _, field := range [][]byte{raw[:4], raw[4:6], raw[6:8]} {
				slices.Reverse(field)
			}
			copy(e[16:], raw)
			name = name[:32]
		} else {
			copy(e, basicData)
		}
		for i, c := range utf16.Encode([]rune(name)) {
			le.PutUint16(e[56+2*i:], c)
		}
		first := firstData + len(data)/sector
		data = append(data, p.Data...)
		data = append(data, make([]byte, -len(data)&(sector-1))...)
		le.PutUint64(e[32:], uint64(first))
		le.PutUint64(e[40:], uint64(firstData+len(data)/sector-1))
		entries = append(entries, e...)
	}
	h := make([]byte, 92)
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], uint32(len(entries)/entrySize))
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	b := make([]byte, firstData*sector)
	copy(b[sector:], h)
	copy(b[2*sector:], entries)
	return append(b, data...)
}
