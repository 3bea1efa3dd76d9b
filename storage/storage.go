// Package storage has the words in which an image says where its bytes are
// and the small interfaces through which those bytes are had: a [Blob] is an
// object at a [Backend], a [Chunk] is the part of a blob that is fetched and
// verified at once, an [Extent] is a range of a chunk that a file shows.
//
// The package is a leaf: it imports nothing else of the project and does no
// I/O. Formats (packages under image) produce extents, package cache turns
// them into bytes, packages under backend bring the stored ranges.
package storage

import (
	"context"
	"encoding/hex"
	"fmt"
)

// Algorithm is a digest function. The values are those of RAFS.
type Algorithm uint8

// The digest functions of RAFS images: BLAKE3 is the plain unkeyed 256-bit
// hash.
const (
	BLAKE3 Algorithm = 0
	SHA256 Algorithm = 1
)

// String returns the name that command lines and OCI digests use.
func (a Algorithm) String() string {
	switch a {
	case BLAKE3:
		return "blake3"
	case SHA256:
		return "sha256"
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// Digest is the 32-byte hash of a chunk's uncompressed bytes, or of a blob.
// It is comparable and can be a map key.
type Digest struct {
	Sum       [32]byte
	Algorithm Algorithm
}

// String returns the digest in the form "sha256:0123…".
func (d Digest) String() string {
	return d.Algorithm.String() + ":" + hex.EncodeToString(d.Sum[:])
}

// Compressor is a compression method. The values are those of RAFS.
type Compressor uint8

// The compression methods of chunks: LZ4Block is a raw LZ4 block without
// frame or size, Gzip one member, Zstd one frame.
const (
	None     Compressor = 0
	LZ4Block Compressor = 1
	Gzip     Compressor = 2
	Zstd     Compressor = 3
)

// String returns the name that nydus-image gives the method.
func (c Compressor) String() string {
	switch c {
	case None:
		return "none"
	case LZ4Block:
		return "lz4_block"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compressor %d", uint8(c))
}

// Blob is one stored object of an image. It does not change once its image
// is open, and is shared by all chunks in it.
type Blob struct {
	ID               string // name at the backend, for most a hex SHA-256
	Index            int    // position in the image's blob table
	Size             int64  // bytes stored, all sections; 0 when the image does not say
	DataSize         int64  // bytes from offset 0 that hold chunks
	UncompressedSize int64  // bytes of the uncompressed address space
	ChunkSize        uint32 // largest uncompressed chunk, a power of two
	ChunkCount       uint32
	Compressor       Compressor
	Digester         Algorithm
	Cipher           *Cipher // how encrypted chunks are decrypted, nil if there are none

	// Neighbour returns the chunk with that index, if there is one and the
	// image can tell without I/O; a reader in sequence is read ahead with it.
	// It is nil when the image cannot, and safe for concurrent use.
	Neighbour func(index uint32) (Chunk, bool)
}

// Cipher is AES-128-XTS with one key and one IV for all chunks of a blob:
// each chunk is one data unit.
type Cipher struct {
	Key [32]byte // the two 16-byte halves of XTS
	IV  [16]byte
}

// ChunkFlags say how a chunk is stored.
type ChunkFlags uint8

// Flags of a chunk.
const (
	Compressed ChunkFlags = 1 << iota // stored through Blob.Compressor, else as it is
	HasDigest                         // Digest is meant
	HasCRC32C                         // CRC32C is meant
	InGroup                           // Group is meant: batch or zran
	Encrypted
	StoredDigest // Digest is of the group's stored bytes: there is none of the contents
)

// Chunk is the unit of fetch and verification. Offsets and sizes are claims
// of the image until the bytes have been verified.
type Chunk struct {
	Blob               *Blob
	Group              *Group // set with InGroup
	Offset             int64  // stored range in the blob
	UncompressedOffset int64  // place in the blob's uncompressed address space
	Size               uint32 // stored bytes
	UncompressedSize   uint32
	Index              uint32 // position in the blob's chunk table, below Blob.ChunkCount
	GroupOffset        uint32 // with InGroup: where the chunk starts in the group's uncompressed bytes
	CRC32C             uint32
	Digest             Digest
	Flags              ChunkFlags
}

// Group is a stored range that several chunks share: a batch (small chunks
// compressed together) or the stretch of a gzip stream behind a random-access
// point. Chunk.GroupOffset is where a chunk's bytes start in it.
type Group struct {
	Offset           int64 // stored range in the blob
	Size             uint32
	UncompressedSize uint32
	Index            uint32
	// Prefix: the contents are what the first UncompressedSize bytes of the
	// decompressed range are; what comes behind is not decoded. It is so of
	// Deflate in any case.
	Prefix bool
	// A gzip random-access point: deflate starts Bits bits before Offset
	// (0 to 7) with Dictionary as its window. A batch has no Dictionary and
	// Deflate is false.
	Deflate    bool
	Bits       uint8
	BitsByte   byte // the byte before Offset, of which Bits bits belong to the stream
	Lead       bool // that byte is not known, but the first one of the stored range
	Dictionary []byte
	// Base is the uncompressed offset in the blob at which the group starts.
	Base int64
}

// Extent is a range of a file: Length bytes from FileOffset on are the bytes
// of Chunk from ChunkOffset on, or zeros for a hole (Chunk.Blob is nil).
type Extent struct {
	FileOffset  int64
	Length      int64 // more than 0; within one chunk unless it is a hole
	ChunkOffset uint32
	Chunk       Chunk
}

// Hole reports whether the extent reads as zeros.
func (e *Extent) Hole() bool { return e.Chunk.Blob == nil }

// Backend reads ranges of stored blobs. Implementations are safe for
// concurrent use, keep no reference to p, and return within the life of ctx.
type Backend interface {
	// ReadAt fills all of p with the bytes of blob from off on; fewer bytes
	// are an error (io.ErrUnexpectedEOF at the end of the blob).
	ReadAt(ctx context.Context, blob string, p []byte, off int64) error
	// Size returns the bytes that blob has. A blob that does not exist is an
	// error for which errors.Is(err, fs.ErrNotExist) holds.
	Size(ctx context.Context, blob string) (int64, error)
}

// Reader gives the verified bytes of extents. It is implemented by package
// cache, and by in-memory readers in tests.
type Reader interface {
	// ReadExtents fills p with the bytes of the extents, which lie one after
	// another in a file and are together at least len(p) long; p starts at
	// the first byte of ext[0]. All of p is filled, or there is an error: a
	// byte that has not been verified is never given out as good. Extents
	// beyond the end of p are what will likely be read next.
	ReadExtents(ctx context.Context, p []byte, ext []Extent) error
}

// originKey marks a context whose reads shall come from the origin.
type originKey struct{}

// FromOrigin returns a context for a read that goes past proxies and mirrors
// to the place that owns the blob: what is tried when a copy was wrong.
func FromOrigin(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, true)
}

// IsFromOrigin reports whether ctx is one of FromOrigin.
func IsFromOrigin(ctx context.Context) bool {
	v, _ := ctx.Value(originKey{}).(bool)
	return v
}
