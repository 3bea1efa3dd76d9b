package localdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// partition is a stretch of the disk that holds one blob.
type partition struct {
	blob      string
	off, size int64 // bytes
}

// Limits of what a partition table may say: UEFI 2.10, section 5.3.
const (
	entrySize     = 128 // the usual; larger ones are read as far as this
	maxEntries    = 1024
	maxEntryBytes = 4096
)

// basicData is the type of a partition whose name alone is the blob's.
var basicData = [16]byte{0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7}

// ErrNoTable is the error of Open for a disk without a table of partitions.
var ErrNoTable = errors.New("no GUID partition table")

var errDamaged = errors.New("GUID partition table is damaged")

// parseGPT returns the partitions of a disk of size bytes, tried with
// sectors of 512 and 4096 bytes.
func parseGPT(r io.ReaderAt, size int64) ([]partition, error) {
	for _, sector := range []int64{512, 4096} {
		if parts, err := parseTable(r, size, sector); !errors.Is(err, ErrNoTable) {
			return parts, err
		}
	}
	return nil, ErrNoTable
}

func parseTable(r io.ReaderAt, size, sector int64) ([]partition, error) {
	h := make([]byte, 92)
	if _, err := r.ReadAt(h, sector); err != nil || string(h[:8]) != "EFI PART" {
		return nil, ErrNoTable
	}
	le := binary.LittleEndian
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if le.Uint32(h[12:]) != 92 || crc32.ChecksumIEEE(h) != sum {
		return nil, fmt.Errorf("%w: checksum of the header", errDamaged)
	}
	at, n, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if n > maxEntries || each < entrySize || each > maxEntryBytes || at > uint64(size/sector) {
		return nil, fmt.Errorf("%w: table of %d entries of %d bytes at sector %d", errDamaged, n, each, at)
	}
	table := make([]byte, int(n)*int(each))
	if _, err := r.ReadAt(table, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("%w: entries: %w", errDamaged, err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("%w: checksum of the entries", errDamaged)
	}
	var parts []partition
	for ; len(table) > 0; table = table[each:] {
		e := table[:entrySize]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > last || last >= uint64(size/sector) {
			return nil, fmt.Errorf("%w: partition of sectors %d to %d of %d", errDamaged, first, last, size/sector)
		}
		parts = append(parts, partition{blobName(e), int64(first) * sector, int64(last-first+1) * sector})
	}
	return parts, nil
}

// blobName is the blob that a partition holds: its name, and where the type
// is not "basic data" its own GUID behind it, since a name has room for 36
// characters and an ID has 64.
func blobName(e []byte) string {
	var u []uint16
	for i := 56; i < 128; i += 2 {
		c := binary.LittleEndian.Uint16(e[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	name := string(utf16.Decode(u))
	if bytes.Equal(e[:16], basicData[:]) {
		return name
	}
	return name + strings.ToLower(guid(e[16:32]))
}

// guid is a GUID's 32 hexadecimal digits: the first three fields are stored
// with their bytes turned round.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x%04x%04x%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:16])
}
