package erofs

import (
	"encoding/binary"
	"errors"
)

var errLZ4 = errors.New("lz4 data is corrupt")

// lz4Prefix fills dst from an LZ4 block at the start of src that need not
// end with it: images without zero padding do not say where the data ends.
// Source: the LZ4 block format description.
func lz4Prefix(dst, src []byte) error {
	d := 0
	for d < len(dst) {
		if len(src) == 0 {
			return errLZ4
		}
		token := src[0]
		src = src[1:]
		literals, rest, ok := lz4Length(int(token>>4), src)
		if !ok || literals > len(rest) {
			return errLZ4
		}
		k := copy(dst[d:], rest[:literals])
		if d += k; k < literals || d == len(dst) {
			return nil
		}
		src = rest[literals:]
		if len(src) < 2 {
			return errLZ4
		}
		back := int(binary.LittleEndian.Uint16(src))
		match, rest, ok := lz4Length(int(token&15), src[2:])
		if !ok || back == 0 || back > d {
			return errLZ4
		}
		src = rest
		for n := min(match+4, len(dst)-d); n > 0; n-- { // may overlap itself
			dst[d] = dst[d-back]
			d++
		}
	}
	return nil
}

// lz4Length adds the bytes that go on with a length of 15.
func lz4Length(n int, src []byte) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, src, true
	}
	for i, c := range src {
		n += int(c)
		if c != 255 {
			return n, src[i+1:], true
		}
	}
	return 0, nil, false
}
