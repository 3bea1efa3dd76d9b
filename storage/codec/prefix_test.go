package codec

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

func TestPrefixOfFrames(t *testing.T) {
	p := contents(300_000)
	for i := range p {
		p[i] &= 15 // so that it compresses
	}
	first, err := Compress(nil, p[:200_000], storage.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	src, err := Compress(first, p[200_000:], storage.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	group := func(n int) *storage.Chunk {
		return &storage.Chunk{
			Blob: &storage.Blob{Compressor: storage.Zstd}, Flags: storage.InGroup | storage.Compressed,
			Group: &storage.Group{UncompressedSize: uint32(n), Prefix: true},
		}
	}
	for _, n := range []int{1, 100, len(first), len(src), 199_999, 200_000, 200_001, 300_000} {
		dst := make([]byte, n)
		for _, stored := range [][]byte{src, append(bytes.Clone(src), "behind it"...)} {
			if err := DecodeGroup(dst, stored, group(n)); err != nil || !bytes.Equal(dst, p[:n]) {
				t.Errorf("%d bytes: %v, right %v", n, err, bytes.Equal(dst, p[:n]))
			}
			clear(dst)
		}
	}
	for _, n := range []int{300_001, MaxSize} {
		if err := DecodeGroup(make([]byte, n), src, group(n)); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes of 300000: got %v, want ErrSize", n, err)
		}
	}
	for i, stored := range [][]byte{nil, src[:3], src[:len(src)-5], []byte("no frame at all")} {
		if err := DecodeGroup(make([]byte, 300_000), stored, group(300_000)); err == nil {
			t.Errorf("%d: got no error", i)
		}
	}
	other := group(4)
	other.Blob.Compressor = storage.LZ4Block
	if err := DecodeGroup(make([]byte, 4), []byte("abcd"), other); err == nil {
		t.Error("lz4: got no error")
	}
}
