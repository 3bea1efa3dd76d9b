package erofs

import "encoding/binary"

// Sizes and places of the on-disk structures, in bytes. Source of this file:
// fs/erofs/erofs_fs.h of the Linux kernel, which calls the format EROFS.
const (
	SuperOffset       = 1024
	SuperSize         = 128
	Magic             = 0xE0F5E1E2
	SlotSize          = 32 // an inode starts at a multiple of it; the NID counts slots
	CompactInodeSize  = 32
	ExtendedInodeSize = 64
	DeviceSlotSize    = 128
	DirentSize        = 12
	XattrHeaderSize   = 12
	XattrEntrySize    = 4
	MaxNameLen        = 255
	MaxSymlinkLen     = 4096
)

// Bits of Super.Compat. A reader may ignore those that it does not know.
const (
	CompatChecksum    = 0x1
	CompatMTime       = 0x2
	CompatXattrFilter = 0x4
	CompatRAFS        = 0x40000000 // RAFS v6: an extended superblock follows
)

// Bits of Super.Incompat. A reader must refuse those that it does not know.
const (
	IncompatZeroPadding   = 0x1  // lz4 clusters end at their end, zeros come first
	IncompatComprConfigs  = 0x2  // compression configurations follow the superblock; also big clusters
	IncompatChunked       = 0x4  // chunk-based files
	IncompatDevices       = 0x8  // device table; also a second compression algorithm
	IncompatTailPacking   = 0x10 // the tail cluster lies behind the inode
	IncompatFragments     = 0x20 // tails lie in the packed inode; also deduplicated clusters
	IncompatXattrPrefixes = 0x40 // table of long xattr name prefixes
	Incompat48Bit         = 0x80 // block addresses of 48 bits
	IncompatMetabox       = 0x100
)

// Layout is how the data of an inode is kept: bits 1 to 3 of its format.
type Layout uint8

// The data layouts.
const (
	FlatPlain         Layout = 0 // blocks one after another from the start address
	CompressedFull    Layout = 1
	FlatInline        Layout = 2 // as FlatPlain, with the last partial block behind the inode
	CompressedCompact Layout = 3
	ChunkBased        Layout = 4 // an array of chunk addresses behind the inode
)

// Bits of the chunk format in an inode of layout ChunkBased.
const (
	ChunkBlockBits = 0x1f // log2 of blocks per chunk
	ChunkIndexes   = 0x20 // 8-byte indexes with a device number, not 4-byte addresses
	Chunk48Bit     = 0x40
	NullAddr       = 0xffffffff // block address of a hole
)

// File types in directory entries.
const (
	TypeUnknown = 0
	TypeRegular = 1
	TypeDir     = 2
	TypeChar    = 3
	TypeBlock   = 4
	TypeFIFO    = 5
	TypeSocket  = 6
	TypeSymlink = 7
)

// Xattr name prefixes: the index of each in this table stands in the entry.
var xattrPrefixes = [...]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	5: "lustre.",
	6: "security.",
}

// XattrPrefix returns the name prefix with the given index, or "".
func XattrPrefix(index uint8) string {
	if int(index) < len(xattrPrefixes) {
		return xattrPrefixes[index]
	}
	return ""
}

// SplitXattr cuts a full xattr name into the index of its prefix and the
// rest. It returns false for a name that the format can not hold.
func SplitXattr(name string) (index uint8, rest string, ok bool) {
	for i, p := range xattrPrefixes {
		if p == "" || len(name) < len(p) || name[:len(p)] != p {
			continue
		}
		whole := i == 2 || i == 3 // these are names, not only prefixes
		if whole == (len(name) == len(p)) {
			return uint8(i), name[len(p):], true
		}
	}
	return 0, "", false
}

// Super is the superblock.
type Super struct {
	Checksum      uint32 // CRC-32C of the superblock's block when Compat has CompatChecksum
	Compat        uint32
	BlockBits     uint8 // log2 of the block size, 9 to 16
	ExtSlots      uint8 // 16-byte extensions behind the superblock
	RootNID       uint16
	Inodes        uint64
	Epoch         uint64 // seconds: time stamp of compact inodes
	EpochNsec     uint32
	Blocks        uint32
	MetaBlock     uint32 // block at which inodes are counted from
	XattrBlock    uint32 // block at which shared xattrs are counted from
	UUID          [16]byte
	VolumeName    [16]byte
	Incompat      uint32
	Algorithms    uint16 // compression algorithms in use, or the largest lz4 distance
	Devices       uint16 // extra devices
	DeviceSlot    uint16 // device table at this many DeviceSlotSize
	DirBlockBits  uint8
	XattrPrefixes uint8  // number of long prefixes
	PrefixStart   uint32 // their place, in 4-byte units
	PackedNID     uint64
}

// ParseSuper decodes the superblock at the start of b. It returns false when
// b is too short or has another magic, and checks nothing else.
func ParseSuper(b []byte) (s Super, ok bool) {
	le := binary.LittleEndian
	if len(b) < SuperSize || le.Uint32(b) != Magic {
		return s, false
	}
	s = Super{
		Checksum: le.Uint32(b[4:]), Compat: le.Uint32(b[8:]), BlockBits: b[12], ExtSlots: b[13],
		RootNID: le.Uint16(b[14:]), Inodes: le.Uint64(b[16:]), Epoch: le.Uint64(b[24:]),
		EpochNsec: le.Uint32(b[32:]), Blocks: le.Uint32(b[36:]), MetaBlock: le.Uint32(b[40:]),
		XattrBlock: le.Uint32(b[44:]), Incompat: le.Uint32(b[80:]), Algorithms: le.Uint16(b[84:]),
		Devices: le.Uint16(b[86:]), DeviceSlot: le.Uint16(b[88:]), DirBlockBits: b[90],
		XattrPrefixes: b[91], PrefixStart: le.Uint32(b[92:]), PackedNID: le.Uint64(b[96:]),
	}
	copy(s.UUID[:], b[48:])
	copy(s.VolumeName[:], b[64:])
	return s, true
}

// Append adds the 128 bytes of the superblock to b.
func (s *Super) Append(b []byte) []byte {
	le := binary.LittleEndian
	var p [SuperSize]byte
	le.PutUint32(p[0:], Magic)
	le.PutUint32(p[4:], s.Checksum)
	le.PutUint32(p[8:], s.Compat)
	p[12], p[13] = s.BlockBits, s.ExtSlots
	le.PutUint16(p[14:], s.RootNID)
	le.PutUint64(p[16:], s.Inodes)
	le.PutUint64(p[24:], s.Epoch)
	le.PutUint32(p[32:], s.EpochNsec)
	le.PutUint32(p[36:], s.Blocks)
	le.PutUint32(p[40:], s.MetaBlock)
	le.PutUint32(p[44:], s.XattrBlock)
	copy(p[48:64], s.UUID[:])
	copy(p[64:80], s.VolumeName[:])
	le.PutUint32(p[80:], s.Incompat)
	le.PutUint16(p[84:], s.Algorithms)
	le.PutUint16(p[86:], s.Devices)
	le.PutUint16(p[88:], s.DeviceSlot)
	p[90], p[91] = s.DirBlockBits, s.XattrPrefixes
	le.PutUint32(p[92:], s.PrefixStart)
	le.PutUint64(p[96:], s.PackedNID)
	return append(b, p[:]...)
}

// Device is an entry of the device table: a blob that holds file data.
type Device struct {
	Tag    [64]byte // name of the blob, for RAFS its id
	Blocks uint32
	Mapped uint32 // block address of the blob when everything is seen as one disk, 0 if it is not
}

// ParseDevice decodes the device slot at the start of b.
func ParseDevice(b []byte) (d Device, ok bool) {
	if len(b) < DeviceSlotSize {
		return d, false
	}
	copy(d.Tag[:], b)
	d.Blocks = binary.LittleEndian.Uint32(b[64:])
	d.Mapped = binary.LittleEndian.Uint32(b[68:])
	return d, true
}

// Append adds the 128 bytes of the device slot to b.
func (d *Device) Append(b []byte) []byte {
	b = append(b, d.Tag[:]...)
	b = binary.LittleEndian.AppendUint32(b, d.Blocks)
	b = binary.LittleEndian.AppendUint32(b, d.Mapped)
	return append(b, make([]byte, DeviceSlotSize-72)...)
}
