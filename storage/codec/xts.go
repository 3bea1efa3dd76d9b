package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"

	"github.com/sluicefs/sluice/storage"
)

// errCipher says that encrypted bytes cannot be what a writer made.
var errCipher = errors.New("decrypt: not a whole data unit")

// decrypted returns stored as it was before encryption; stored itself is
// left as it is.
func decrypted(stored []byte, ch *storage.Chunk) ([]byte, error) {
	if ch.Flags&storage.Encrypted == 0 {
		return stored, nil
	}
	if ch.Blob.Cipher == nil {
		return nil, errors.New("decrypt: the image has no key for this blob")
	}
	p, err := decryptXTS(stored, ch.Blob.Cipher)
	if err != nil {
		return nil, err
	}
	return trimPadding(p)
}

// padMark ends a unit of 18 bytes that stands for fewer than 16: data, bytes
// of the value 16-len up to 16, and the mark.
const padMark = "\x78\x90"

func trimPadding(p []byte) ([]byte, error) {
	if len(p) != 18 || string(p[16:]) != padMark {
		return p, nil
	}
	if pad := int(p[15]); pad >= 1 && pad <= 16 {
		return p[:16-pad], nil
	}
	return nil, errCipher
}

// decryptXTS decrypts one data unit by AES-128-XTS (IEEE 1619): the first
// half of the key is for the data, the second for the tweak.
func decryptXTS(src []byte, c *storage.Cipher) ([]byte, error) {
	const size = aes.BlockSize
	if len(src) < size {
		return nil, errCipher
	}
	data, t, err := xtsStart(c)
	if err != nil {
		return nil, err
	}
	dst := make([]byte, len(src))
	whole, rest := len(src)/size*size, len(src)%size
	if rest > 0 {
		whole -= size // the last whole block is swapped with the rest
	}
	for i := 0; i < whole; i += size {
		xtsBlock(data.Decrypt, dst[i:i+size], src[i:i+size], &t)
		double(&t)
	}
	if rest == 0 {
		return dst, nil
	}
	last := t
	double(&last)
	var pp [size]byte
	xtsBlock(data.Decrypt, pp[:], src[whole:whole+size], &last)
	copy(dst[whole+size:], pp[:rest])
	var cc [size]byte
	copy(cc[:], src[whole+size:])
	copy(cc[rest:], pp[rest:])
	xtsBlock(data.Decrypt, dst[whole:whole+size], cc[:], &t)
	return dst, nil
}

// xtsStart returns the data cipher and the tweak of the first block.
func xtsStart(c *storage.Cipher) (data cipher.Block, t [16]byte, err error) {
	if data, err = aes.NewCipher(c.Key[:16]); err != nil {
		return
	}
	tweak, err := aes.NewCipher(c.Key[16:])
	if err == nil {
		tweak.Encrypt(t[:], c.IV[:])
	}
	return
}

func xtsBlock(f func(dst, src []byte), dst, src []byte, t *[16]byte) {
	var b [16]byte
	subtle.XORBytes(b[:], src, t[:])
	f(b[:], b[:])
	subtle.XORBytes(dst, b[:], t[:])
}

// double multiplies the tweak by x in GF(2^128), little-endian.
func double(t *[16]byte) {
	var carry byte
	for i, b := range t {
		t[i] = b<<1 | carry
		carry = b >> 7
	}
	if carry != 0 {
		t[0] ^= 0x87
	}
}
