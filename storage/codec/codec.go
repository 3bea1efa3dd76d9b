// Package codec turns the stored bytes of a chunk into the bytes of a file:
// [Decode] decrypts and decompresses, [Verify] compares with the digest that
// the image has. [Compress] and [Sum] are the other direction.
//
// Stored bytes are hostile. Nothing here allocates more than the sizes that
// the caller passes in, and output that does not fit exactly is an error.
// All functions are safe for concurrent use.
package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/blake3"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec/seek"
)

// MaxSize is the largest uncompressed chunk or group that is decoded, in
// bytes: RAFS allows 16 MiB.
const MaxSize = 16 << 20

// ErrSize says that stored bytes decode to another size than was claimed.
var ErrSize = errors.New("size after decoding is not the size claimed")

// ErrMismatch says that decoded bytes are not what the image's digest or
// checksum says.
var ErrMismatch = errors.New("bytes do not match the image")

// Decode fills dst, whose length is the chunk's uncompressed size, with the
// contents of the chunk's stored bytes. It does not verify them. A chunk in
// a group is decoded from the stored bytes of the whole group, by way of
// DecodeGroup.
func Decode(dst, stored []byte, ch *storage.Chunk) error {
	if len(dst) != int(ch.UncompressedSize) {
		return ErrSize
	}
	if ch.Flags&storage.InGroup != 0 {
		whole := make([]byte, min(ch.Group.UncompressedSize, MaxSize))
		if err := DecodeGroup(whole, stored, ch); err != nil {
			return err
		}
		return FromGroup(dst, whole, ch)
	}
	stored, err := decrypted(stored, ch)
	if err != nil {
		return err
	}
	if ch.Flags&storage.Compressed == 0 {
		return copyStored(dst, stored)
	}
	return Decompress(dst, stored, ch.Blob.Compressor)
}

// DecodeGroup fills dst, whose length is the group's uncompressed size, with
// the contents of the group that ch is in. It verifies stored bytes that have
// a digest of their own.
func DecodeGroup(dst, stored []byte, ch *storage.Chunk) error {
	g := ch.Group
	if g == nil || uint32(len(dst)) != g.UncompressedSize {
		return ErrSize
	}
	if ch.Flags&storage.StoredDigest != 0 {
		if got := Sum(stored, ch.Digest.Algorithm); got != ch.Digest {
			return &MismatchError{Got: got.String(), Want: ch.Digest.String()}
		}
	}
	if g.Deflate {
		first := g.BitsByte
		if g.Lead {
			if len(stored) == 0 {
				return ErrSize
			}
			first, stored = stored[0], stored[1:]
		}
		p := seek.Point{Bits: g.Bits, First: first, Window: g.Dictionary, Head: g.Dictionary == nil && g.Bits == 0 && gzipHead(stored)}
		return seek.Inflate(dst, stored, p)
	}
	stored, err := decrypted(stored, ch)
	if err != nil {
		return err
	}
	if g.Prefix {
		return decompressPrefix(dst, stored, ch.Blob.Compressor)
	}
	if len(stored) == len(dst) {
		return copyStored(dst, stored)
	}
	return Decompress(dst, stored, ch.Blob.Compressor)
}

// FromGroup fills dst with the chunk's part of its group's contents.
func FromGroup(dst, group []byte, ch *storage.Chunk) error {
	from, n := uint64(ch.GroupOffset), uint64(ch.UncompressedSize)
	if from+n > uint64(len(group)) || uint64(len(dst)) != n {
		return ErrSize
	}
	copy(dst, group[from:])
	return nil
}

func gzipHead(b []byte) bool { return len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b }

func copyStored(dst, stored []byte) error {
	if len(dst) != len(stored) {
		return ErrSize
	}
	copy(dst, stored)
	return nil
}

// Decompress fills dst with the contents of src, exactly.
func Decompress(dst, src []byte, c storage.Compressor) error {
	var n int
	var err error
	switch c {
	case storage.None:
		return copyStored(dst, src)
	case storage.LZ4Block:
		n, err = lz4.UncompressBlock(src, dst)
	case storage.Zstd:
		n, err = unzstd(dst, src)
	case storage.Gzip:
		n, err = gunzip(dst, src)
	default:
		return fmt.Errorf("%v is not a known compression", c)
	}
	if err != nil {
		return fmt.Errorf("decompress %v: %w", c, err)
	}
	if n != len(dst) {
		return ErrSize
	}
	return nil
}

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(MaxSize), zstd.WithDecoderLowmem(true))
})

func unzstd(dst, src []byte) (int, error) {
	d, err := zstdDecoder()
	if err != nil {
		return 0, err
	}
	out, err := d.DecodeAll(src, dst[:0:len(dst)])
	return len(out), err
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

func gunzip(dst, src []byte) (int, error) {
	z := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(z)
	if err := z.Reset(bytes.NewReader(src)); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(z, dst)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		return n, nil // the caller says that it is too short
	}
	if err != nil {
		return n, err
	}
	var more [1]byte
	if k, err := z.Read(more[:]); k > 0 {
		return n + k, nil
	} else if err != io.EOF {
		return n, err
	}
	return n, nil
}

var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(0), zstd.WithEncoderLevel(zstd.SpeedDefault))
})

// Compress appends src, compressed as one unit, to dst and returns the
// longer slice. It may come out larger than src: then a writer stores src.
func Compress(dst, src []byte, c storage.Compressor) ([]byte, error) {
	switch c {
	case storage.None:
		return append(dst, src...), nil
	case storage.LZ4Block:
		at := len(dst)
		dst = append(dst, make([]byte, lz4.CompressBlockBound(len(src)))...)
		var z lz4.Compressor
		n, err := z.CompressBlock(src, dst[at:])
		return dst[:at+n], err
	case storage.Zstd:
		e, err := zstdEncoder()
		if err != nil {
			return dst, err
		}
		return e.EncodeAll(src, dst), nil
	case storage.Gzip:
		b := bytes.NewBuffer(dst)
		z := gzip.NewWriter(b)
		if _, err := z.Write(src); err != nil {
			return dst, err
		}
		err := z.Close()
		return b.Bytes(), err
	}
	return dst, fmt.Errorf("%v is not a known compression", c)
}

// Sum returns the digest of p.
func Sum(p []byte, a storage.Algorithm) storage.Digest {
	if a == storage.SHA256 {
		return storage.Digest{Sum: sha256.Sum256(p), Algorithm: a}
	}
	return storage.Digest{Sum: blake3.Sum256(p), Algorithm: storage.BLAKE3}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C returns the checksum of p that RAFS images have.
func CRC32C(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Verify returns a MismatchError unless p is what the image says of the
// chunk. A chunk with neither digest nor checksum is always good.
func Verify(p []byte, ch *storage.Chunk) error {
	if ch.Flags&storage.HasDigest != 0 {
		if got := Sum(p, ch.Digest.Algorithm); got != ch.Digest {
			return &MismatchError{Got: got.String(), Want: ch.Digest.String()}
		}
	}
	if ch.Flags&storage.HasCRC32C != 0 {
		if got := CRC32C(p); got != ch.CRC32C {
			return &MismatchError{Got: fmt.Sprintf("crc32c:%08x", got), Want: fmt.Sprintf("crc32c:%08x", ch.CRC32C)}
		}
	}
	return nil
}

// MismatchError is an ErrMismatch with the two digests.
type MismatchError struct{ Got, Want string }

func (e *MismatchError) Error() string { return "got " + e.Got + ", the image says " + e.Want }

// Is makes the error an ErrMismatch.
func (e *MismatchError) Is(err error) bool { return err == ErrMismatch }
