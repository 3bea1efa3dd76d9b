package rafs

import (
	"encoding/binary"

	"github.com/sluicefs/sluice/storage"
)

// SuperFlags are the flags of an image: s_flags of v5, flags in the extended
// superblock of v6.
type SuperFlags uint64

// The flags. Exactly one compression bit and one hash bit are set.
const (
	CompressionNone     SuperFlags = 0x1
	CompressionLZ4      SuperFlags = 0x2
	HashBLAKE3          SuperFlags = 0x4
	HashSHA256          SuperFlags = 0x8
	ExplicitOwner       SuperFlags = 0x10 // uid and gid of inodes are meant
	HasXattr            SuperFlags = 0x20
	CompressionGzip     SuperFlags = 0x40
	CompressionZstd     SuperFlags = 0x80
	InlinedChunkDigest  SuperFlags = 0x100 // every blob holds the digests of its chunks
	TarfsMode           SuperFlags = 0x200 // blobs are tar files, blocks have 512 bytes
	VariableChunks      SuperFlags = 0x400 // v5: chunks of a file have different sizes; an extension, refused by nydusd
	EncryptionNone      SuperFlags = 0x1000000
	EncryptionAES128XTS SuperFlags = 0x2000000

	compressionFlags = CompressionNone | CompressionLZ4 | CompressionGzip | CompressionZstd
	hashFlags        = HashBLAKE3 | HashSHA256
	knownFlags       = compressionFlags | hashFlags | ExplicitOwner | HasXattr | InlinedChunkDigest | TarfsMode |
		0xff000000 // the encryption bits and six that are set aside
)

// Compressor returns the compression method that f names; false unless it is
// exactly one.
func (f SuperFlags) Compressor() (storage.Compressor, bool) {
	switch f & compressionFlags {
	case CompressionNone:
		return storage.None, true
	case CompressionLZ4:
		return storage.LZ4Block, true
	case CompressionGzip:
		return storage.Gzip, true
	case CompressionZstd:
		return storage.Zstd, true
	}
	return 0, false
}

// Digester returns the digest function that f names; false unless it is
// exactly one.
func (f SuperFlags) Digester() (storage.Algorithm, bool) {
	switch f & hashFlags {
	case HashBLAKE3:
		return storage.BLAKE3, true
	case HashSHA256:
		return storage.SHA256, true
	}
	return 0, false
}

// BlobFeatures are the features of one blob.
type BlobFeatures uint32

// The features. A reader must refuse an unknown one among the low 16 bits.
const (
	BlobAligned            BlobFeatures = 0x1   // chunks start at 4096-byte multiples of the uncompressed space
	BlobInlinedMeta        BlobFeatures = 0x2   // the bootstrap lies inside the blob
	BlobChunkInfoV2        BlobFeatures = 0x4   // blob.meta has 24-byte entries
	BlobZran               BlobFeatures = 0x8   // a gzip stream with random-access points
	BlobSeparate           BlobFeatures = 0x10  // data and blob.meta are two objects
	BlobInlinedChunkDigest BlobFeatures = 0x20  // the blob holds its chunks' digests
	BlobTarfs              BlobFeatures = 0x40  // the blob is a tar file
	BlobBatch              BlobFeatures = 0x80  // small chunks are compressed together
	BlobEncrypted          BlobFeatures = 0x100 // chunks and blob.meta are encrypted
	BlobChunkDict          BlobFeatures = 0x200 // made by "chunkdict generate": counts may not add up
	BlobPrefetchFiles      BlobFeatures = 0x400 // made by "optimize"
	BlobExternal           BlobFeatures = 0x800 // an outside system serves the data
	BlobTarHeader          BlobFeatures = 0x10000000
	BlobTOC                BlobFeatures = 0x20000000
	BlobCapTarTOC          BlobFeatures = 0x40000000 // CompressedSize is that of the whole blob

	knownBlobFeatures = 0xfff
)

// Sizes and places of the on-disk structures, in bytes.
const (
	ExtSuperOffset  = 1152 // behind the EROFS superblock
	ExtSuperSize    = 256
	BlobInfoSize    = 256
	ChunkInfoSize   = 80
	MetaHeaderSize  = 4096
	MetaMagic       = 0xb10bb10b
	TOCEntrySize    = 128
	MaxChunks       = 1 << 24 // in a blob
	MinChunkSize    = 0x1000
	MaxChunkSize    = 0x1000000
	chunkBlockSize  = 4096
	tarBlockSize    = 512
	maxBootstrapLen = 1 << 31
)

// ExtSuper is the extended superblock of v6.
type ExtSuper struct {
	Flags            SuperFlags
	BlobTableOffset  uint64
	BlobTableSize    uint32 // bytes, BlobInfoSize for each blob
	ChunkSize        uint32
	ChunkTableOffset uint64
	ChunkTableSize   uint64 // bytes, ChunkInfoSize for each record
	PrefetchOffset   uint64
	PrefetchSize     uint32 // bytes, 4 for each NID
}

// ParseExtSuper decodes the extended superblock at the start of b.
func ParseExtSuper(b []byte) (s ExtSuper, ok bool) {
	if len(b) < ExtSuperSize {
		return s, false
	}
	le := binary.LittleEndian
	return ExtSuper{
		Flags: SuperFlags(le.Uint64(b)), BlobTableOffset: le.Uint64(b[8:]), BlobTableSize: le.Uint32(b[16:]),
		ChunkSize: le.Uint32(b[20:]), ChunkTableOffset: le.Uint64(b[24:]), ChunkTableSize: le.Uint64(b[32:]),
		PrefetchOffset: le.Uint64(b[40:]), PrefetchSize: le.Uint32(b[48:]),
	}, true
}

// Append adds the 256 bytes of the extended superblock to b.
func (s *ExtSuper) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(s.Flags))
	b = le.AppendUint64(b, s.BlobTableOffset)
	b = le.AppendUint32(b, s.BlobTableSize)
	b = le.AppendUint32(b, s.ChunkSize)
	b = le.AppendUint64(b, s.ChunkTableOffset)
	b = le.AppendUint64(b, s.ChunkTableSize)
	b = le.AppendUint64(b, s.PrefetchOffset)
	b = le.AppendUint32(b, s.PrefetchSize)
	return append(b, make([]byte, ExtSuperSize-52)...)
}

// BlobInfo is an entry of the blob table of v6.
type BlobInfo struct {
	ID               [64]byte // hex, or 64 times 'x' for the blob that holds the bootstrap
	Index            uint32
	ChunkSize        uint32
	ChunkCount       uint32
	Compressor       uint32
	Digester         uint32
	Features         BlobFeatures
	CompressedSize   uint64
	UncompressedSize uint64
	TOCSize          uint32 // with its tar header
	CICompressor     uint32 // of the blob.meta table
	CIOffset         uint64 // place of the blob.meta table in the blob
	CICompressedSize uint64
	CISize           uint64 // uncompressed
	TOCDigest        [32]byte
	MetaDigest       [32]byte // id of the blob.meta object of a separate blob; the key of an encrypted one
	MetaSize         uint64   // its size; the IV's bytes 0 to 7 of an encrypted blob
	CipherIV         [8]byte  // bytes 8 to 15
	Cipher           uint32   // 0 none, 1 AES-128-XTS
}

// ParseBlobInfo decodes the blob table entry at the start of b.
func ParseBlobInfo(b []byte) (i BlobInfo, ok bool) {
	if len(b) < BlobInfoSize {
		return i, false
	}
	le := binary.LittleEndian
	i = BlobInfo{
		Index: le.Uint32(b[64:]), ChunkSize: le.Uint32(b[68:]), ChunkCount: le.Uint32(b[72:]),
		Compressor: le.Uint32(b[76:]), Digester: le.Uint32(b[80:]), Features: BlobFeatures(le.Uint32(b[84:])),
		CompressedSize: le.Uint64(b[88:]), UncompressedSize: le.Uint64(b[96:]), TOCSize: le.Uint32(b[104:]),
		CICompressor: le.Uint32(b[108:]), CIOffset: le.Uint64(b[112:]), CICompressedSize: le.Uint64(b[120:]),
		CISize: le.Uint64(b[128:]), MetaSize: le.Uint64(b[200:]), Cipher: le.Uint32(b[216:]),
	}
	copy(i.ID[:], b)
	copy(i.TOCDigest[:], b[136:])
	copy(i.MetaDigest[:], b[168:])
	copy(i.CipherIV[:], b[208:])
	return i, true
}

// Append adds the 256 bytes of the entry to b.
func (i *BlobInfo) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, i.ID[:]...)
	for _, v := range [...]uint32{i.Index, i.ChunkSize, i.ChunkCount, i.Compressor, i.Digester, uint32(i.Features)} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint64(b, i.CompressedSize)
	b = le.AppendUint64(b, i.UncompressedSize)
	b = le.AppendUint32(b, i.TOCSize)
	b = le.AppendUint32(b, i.CICompressor)
	b = le.AppendUint64(b, i.CIOffset)
	b = le.AppendUint64(b, i.CICompressedSize)
	b = le.AppendUint64(b, i.CISize)
	b = append(b, i.TOCDigest[:]...)
	b = append(b, i.MetaDigest[:]...)
	b = le.AppendUint64(b, i.MetaSize)
	b = append(b, i.CipherIV[:]...)
	b = le.AppendUint32(b, i.Cipher)
	return append(b, make([]byte, BlobInfoSize-220)...)
}

// Flags of a ChunkInfo.
const (
	ChunkCompressed = 0x1
	ChunkHole       = 0x2
	ChunkEncrypted  = 0x4
	ChunkBatch      = 0x8
	ChunkHasCRC     = 0x10
)

// Where fields lie in a chunk record.
const (
	chunkSizeOffset = 44 // UncompressedSize
	chunkFileOffset = 64 // FileOffset
)

// ChunkInfo is the 80-byte record of a chunk: behind the inode in v5, in the
// chunk table in v6.
type ChunkInfo struct {
	Digest             [32]byte // of the uncompressed bytes
	Blob               uint32   // position in the blob table
	Flags              uint32
	CompressedSize     uint32
	UncompressedSize   uint32
	CompressedOffset   uint64
	UncompressedOffset uint64
	FileOffset         uint64 // in one file that has the chunk
	Index              uint32 // in the blob
	CRC                uint32 // CRC-32C of the uncompressed bytes, with ChunkHasCRC
}

// ParseChunkInfo decodes the record at the start of b.
func ParseChunkInfo(b []byte) (c ChunkInfo, ok bool) {
	if len(b) < ChunkInfoSize {
		return c, false
	}
	le := binary.LittleEndian
	c = ChunkInfo{
		Blob: le.Uint32(b[32:]), Flags: le.Uint32(b[36:]), CompressedSize: le.Uint32(b[40:]),
		UncompressedSize: le.Uint32(b[44:]), CompressedOffset: le.Uint64(b[48:]),
		UncompressedOffset: le.Uint64(b[56:]), FileOffset: le.Uint64(b[64:]),
		Index: le.Uint32(b[72:]), CRC: le.Uint32(b[76:]),
	}
	copy(c.Digest[:], b)
	return c, true
}

// Append adds the 80 bytes of the record to b.
func (c *ChunkInfo) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, c.Digest[:]...)
	for _, v := range [...]uint32{c.Blob, c.Flags, c.CompressedSize, c.UncompressedSize} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint64(b, c.CompressedOffset)
	b = le.AppendUint64(b, c.UncompressedOffset)
	b = le.AppendUint64(b, c.FileOffset)
	b = le.AppendUint32(b, c.Index)
	return le.AppendUint32(b, c.CRC)
}

// MetaHeader is the 4096-byte header behind the blob.meta table.
type MetaHeader struct {
	Features     BlobFeatures
	Compressor   uint32 // of the table
	Entries      uint32 // chunks
	Offset       uint64 // of the table in the blob
	Compressed   uint64 // bytes of the table as stored
	Size         uint64 // bytes of the table, contexts and dictionaries included
	ContextStart uint64 // zran or batch contexts: place in the uncompressed table
	ContextSize  uint64 // array and dictionaries
	Contexts     uint32
}

// ParseMetaHeader decodes the header at the start of b; false when b is too
// short or one of the two magic numbers is wrong.
func ParseMetaHeader(b []byte) (h MetaHeader, ok bool) {
	le := binary.LittleEndian
	if len(b) < MetaHeaderSize || le.Uint32(b) != MetaMagic || le.Uint32(b[4092:]) != MetaMagic {
		return h, false
	}
	return MetaHeader{
		Features: BlobFeatures(le.Uint32(b[4:])), Compressor: le.Uint32(b[8:]), Entries: le.Uint32(b[12:]),
		Offset: le.Uint64(b[16:]), Compressed: le.Uint64(b[24:]), Size: le.Uint64(b[32:]),
		ContextStart: le.Uint64(b[40:]), ContextSize: le.Uint64(b[48:]), Contexts: le.Uint32(b[56:]),
	}, true
}

// Append adds the 4096 bytes of the header to b.
func (h *MetaHeader) Append(b []byte) []byte {
	le := binary.LittleEndian
	var p [MetaHeaderSize]byte
	le.PutUint32(p[0:], MetaMagic)
	le.PutUint32(p[4:], uint32(h.Features))
	le.PutUint32(p[8:], h.Compressor)
	le.PutUint32(p[12:], h.Entries)
	le.PutUint64(p[16:], h.Offset)
	le.PutUint64(p[24:], h.Compressed)
	le.PutUint64(p[32:], h.Size)
	le.PutUint64(p[40:], h.ContextStart)
	le.PutUint64(p[48:], h.ContextSize)
	le.PutUint32(p[56:], h.Contexts)
	le.PutUint32(p[4092:], MetaMagic)
	return append(b, p[:]...)
}

// Flags of a TOCEntry.
const (
	TOCNone = 0x1
	TOCZstd = 0x2
	TOCLZ4  = 0x4
)

// TOCEntry is an entry of a blob's table of contents.
type TOCEntry struct {
	Flags            uint32
	Name             string   // at most 16 bytes
	Digest           [32]byte // SHA-256 of the uncompressed section, zeros: unchecked
	CompressedOffset uint64
	CompressedSize   uint64
	UncompressedSize uint64
}

// ParseTOCEntry decodes the entry at the start of b.
func ParseTOCEntry(b []byte) (e TOCEntry, ok bool) {
	if len(b) < TOCEntrySize {
		return e, false
	}
	le := binary.LittleEndian
	e = TOCEntry{
		Flags: le.Uint32(b), Name: cString(b[8:24]), CompressedOffset: le.Uint64(b[56:]),
		CompressedSize: le.Uint64(b[64:]), UncompressedSize: le.Uint64(b[72:]),
	}
	copy(e.Digest[:], b[24:])
	return e, true
}

// Append adds the 128 bytes of the entry to b.
func (e *TOCEntry) Append(b []byte) []byte {
	le := binary.LittleEndian
	var p [TOCEntrySize]byte
	le.PutUint32(p[0:], e.Flags)
	copy(p[8:24], e.Name)
	copy(p[24:56], e.Digest[:])
	le.PutUint64(p[56:], e.CompressedOffset)
	le.PutUint64(p[64:], e.CompressedSize)
	le.PutUint64(p[72:], e.UncompressedSize)
	return append(b, p[:]...)
}

// cString returns the bytes of b up to the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
