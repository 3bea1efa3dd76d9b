package codec

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

func contents(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i/64) ^ byte(rnd.IntN(8))
	}
	return p
}

var compressors = []storage.Compressor{storage.None, storage.LZ4Block, storage.Gzip, storage.Zstd}

func TestRoundTrip(t *testing.T) {
	for _, c := range compressors {
		for _, n := range []int{1, 100, 4096, 1 << 20} {
			p := contents(n)
			stored, err := Compress([]byte("head"), p, c)
			if err != nil || !bytes.HasPrefix(stored, []byte("head")) {
				t.Fatalf("%v: compress: %v", c, err)
			}
			stored = stored[4:]
			if len(stored) == 0 && c == storage.LZ4Block {
				continue // does not compress: stored as it is
			}
			dst := make([]byte, n)
			if err := Decompress(dst, stored, c); err != nil || !bytes.Equal(dst, p) {
				t.Errorf("%v of %d bytes: %v, right %v", c, n, err, bytes.Equal(dst, p))
			}
			for _, other := range []int{n - 1, n + 1} {
				if err := Decompress(make([]byte, other), stored, c); err == nil {
					t.Errorf("%v: %d bytes decoded as %d: got no error", c, n, other)
				}
			}
			if err := Decompress(dst, stored[:len(stored)-1], c); err == nil && n > 1 && c != storage.Gzip {
				t.Errorf("%v: cut: got no error", c)
			}
		}
	}
	if err := Decompress(nil, nil, 99); err == nil {
		t.Error("unknown compression: got no error")
	}
}

func TestVerify(t *testing.T) {
	p := contents(5000)
	for _, a := range []storage.Algorithm{storage.BLAKE3, storage.SHA256} {
		ch := &storage.Chunk{Digest: Sum(p, a), CRC32C: CRC32C(p), Flags: storage.HasDigest | storage.HasCRC32C}
		if err := Verify(p, ch); err != nil {
			t.Errorf("%v: %v", a, err)
		}
		if err := Verify(append([]byte{1}, p[1:]...), ch); !errors.Is(err, ErrMismatch) {
			t.Errorf("%v: other bytes: got %v", a, err)
		}
		ch.CRC32C++
		if err := Verify(p, ch); !errors.Is(err, ErrMismatch) {
			t.Errorf("%v: other checksum: got %v", a, err)
		}
	}
	// Known answers: the empty string by BLAKE3 and SHA-256, "123456789" by
	// CRC-32C.
	if s := Sum(nil, storage.BLAKE3).String(); s != "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262" {
		t.Errorf("blake3: got %s", s)
	}
	if s := Sum(nil, storage.SHA256).String(); s != "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("sha256: got %s", s)
	}
	if c := CRC32C([]byte("123456789")); c != 0xe3069283 {
		t.Errorf("crc32c: got %08x", c)
	}
}

func TestGroups(t *testing.T) {
	whole := contents(10_000)
	stored, err := Compress(nil, whole, storage.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	b := &storage.Blob{Compressor: storage.Zstd}
	g := &storage.Group{Size: uint32(len(stored)), UncompressedSize: uint32(len(whole))}
	ch := &storage.Chunk{Blob: b, Group: g, GroupOffset: 3000, UncompressedSize: 500, Flags: storage.InGroup | storage.Compressed}
	dst := make([]byte, 500)
	if err := Decode(dst, stored, ch); err != nil || !bytes.Equal(dst, whole[3000:3500]) {
		t.Errorf("batch: %v", err)
	}
	ch.GroupOffset = 9501
	if err := Decode(dst, stored, ch); err == nil {
		t.Error("chunk beyond its group: got no error")
	}
	// The start of a gzip stream is a group too.
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(whole)
	w.Close()
	ch.Group = &storage.Group{Size: uint32(z.Len()), UncompressedSize: uint32(len(whole)), Deflate: true}
	ch.GroupOffset = 7000
	if err := Decode(dst, z.Bytes(), ch); err != nil || !bytes.Equal(dst, whole[7000:7500]) {
		t.Errorf("gzip: %v", err)
	}
}

// TestXTS has vectors of IEEE 1619-2007, annex B: 1, 2 and, with ciphertext
// stealing, 15.
func TestXTS(t *testing.T) {
	for _, v := range []struct{ key1, key2, iv, plain, cipher string }{
		{
			"00000000000000000000000000000000", "00000000000000000000000000000000", "00000000000000000000000000000000",
			"0000000000000000000000000000000000000000000000000000000000000000",
			"917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
		},
		{
			"11111111111111111111111111111111", "22222222222222222222222222222222", "33333333330000000000000000000000",
			"4444444444444444444444444444444444444444444444444444444444444444",
			"c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
		},
		{
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0", "9a785634120000000000000000000000",
			"000102030405060708090a0b0c0d0e0f10",
			"6c1625db4671522d3d7599601de7ca09ed",
		},
	} {
		c := new(storage.Cipher)
		unhex(c.Key[:16], v.key1)
		unhex(c.Key[16:], v.key2)
		unhex(c.IV[:], v.iv)
		src, _ := hex.DecodeString(v.cipher)
		got, err := decryptXTS(src, c)
		if err != nil || hex.EncodeToString(got) != v.plain {
			t.Errorf("decrypt %s: got %x, %v, want %s", v.cipher, got, err, v.plain)
		}
	}
	if _, err := decryptXTS(make([]byte, aes.BlockSize-1), new(storage.Cipher)); err == nil {
		t.Error("unit shorter than a block: got no error")
	}
	for n := range 16 {
		unit := append(contents(16)[:n:n], bytes.Repeat([]byte{byte(16 - n)}, 16-n)...)
		got, err := trimPadding(append(unit, padMark...))
		if err != nil || !bytes.Equal(got, unit[:n]) {
			t.Errorf("padding of %d bytes: got %x, %v", n, got, err)
		}
	}
}

func unhex(dst []byte, s string) { hex.Decode(dst, []byte(s)) }

func TestEncryptedChunkWithoutKey(t *testing.T) {
	ch := &storage.Chunk{Blob: &storage.Blob{}, UncompressedSize: 16, Flags: storage.Encrypted}
	if err := Decode(make([]byte, 16), make([]byte, 16), ch); err == nil {
		t.Error("decode: got no error")
	}
}

func FuzzDecompress(f *testing.F) {
	for _, c := range compressors {
		b, _ := Compress(nil, contents(3000), c)
		f.Add(uint8(c), b, uint16(3000))
	}
	f.Fuzz(func(t *testing.T, c uint8, b []byte, n uint16) {
		dst := make([]byte, int(n)+1)
		dst[n] = 0xa5
		if Decompress(dst[:n:n], b, storage.Compressor(c)); dst[n] != 0xa5 {
			t.Error("wrote behind the buffer")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	p := contents(1 << 20)
	for _, c := range compressors {
		stored, err := Compress(nil, p, c)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("compressor=%v", c), func(b *testing.B) {
			dst := make([]byte, len(p))
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if err := Decompress(dst, stored, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
