package codec

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/storage"
)

// maxWindow is the largest window of a zstd frame of which a prefix is
// decoded, in bytes: what the highest levels write.
const maxWindow = 32 << 20

// zstdStreams has readers of one frame after another; they have no goroutines
// and keep their window.
var zstdStreams sync.Pool

// decompressPrefix fills dst with the first bytes of what src decompresses to.
// Nothing behind them is decoded, so src may end in the middle of a frame.
func decompressPrefix(dst, src []byte, c storage.Compressor) error {
	if c != storage.Zstd {
		return fmt.Errorf("decompress %v: a group that goes on behind its contents is not supported", c)
	}
	z, ok := zstdStreams.Get().(*zstd.Decoder)
	if !ok {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
	}
	err := z.Reset(bytes.NewReader(src))
	n := 0
	if err == nil {
		n, err = io.ReadFull(z, dst)
	}
	if e := z.Reset(nil); e == nil { // or it would keep src
		zstdStreams.Put(z)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrSize
	}
	if err != nil {
		return fmt.Errorf("decompress %v: %d of %d bytes: %w", c, n, len(dst), err)
	}
	return nil
}
