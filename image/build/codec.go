package build

import (
	"crypto/sha256"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/blake3"

	"github.com/sluicefs/sluice/storage"
)

// coder hashes and compresses chunks. It belongs to one goroutine.
type coder struct {
	compressor storage.Compressor
	digester   storage.Algorithm
	zstd       *zstd.Encoder
	lz4        lz4.Compressor
	batch      []byte // of compressBatches
}

// zstdLevels are the encoder's levels 1 to 4.
var zstdLevels = [...]zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression}

// zstdWindow is how far back zstd's encoder looks, in bytes, where chunks are
// not larger: it keeps a buffer of that size.
const zstdWindow = 1 << 20

// newCoder returns a coder with that compressor and the other settings of o.
func (o *Options) newCoder(c storage.Compressor) (*coder, error) {
	out := &coder{compressor: c, digester: o.Digester}
	if c == storage.Zstd {
		var err error
		out.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevels[o.Level-1]),
			zstd.WithWindowSize(int(max(zstdWindow, o.ChunkSize, o.BatchSize))), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, fmt.Errorf("zstd encoder: %w", err)
		}
	}
	return out, nil
}

// digest returns the hash of p.
func (c *coder) digest(p []byte) [32]byte { return digestOf(c.digester, p) }

func digestOf(a storage.Algorithm, p []byte) [32]byte {
	if a == storage.SHA256 {
		return sha256.Sum256(p)
	}
	return blake3.Sum256(p)
}

// compress appends the compressed form of src to dst, which has room for
// bound(len(src)) more bytes, and returns the longer slice. Where compression
// does not make src smaller, dst comes back as it was and ok is false.
func (c *coder) compress(dst, src []byte) (out []byte, ok bool) {
	switch c.compressor {
	case storage.Zstd:
		out = c.zstd.EncodeAll(src, dst)
	case storage.LZ4Block:
		n, err := c.lz4.CompressBlock(src, dst[len(dst):cap(dst)])
		if err != nil || n == 0 {
			return dst, false
		}
		out = dst[:len(dst)+n]
	default:
		return dst, false
	}
	if len(out)-len(dst) >= len(src) {
		return dst, false
	}
	return out, true
}

// bound is the most bytes that compress adds for n bytes.
func bound(n int) int { return lz4.CompressBlockBound(n) + 64 }
