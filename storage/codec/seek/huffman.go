package seek

import "math/bits"

// A Huffman table is looked up with the next bits of the stream, lowest bit
// first. Codes of up to primaryBits bits are found at once; longer ones
// through a second table behind the first.
//
// An entry holds the symbol from bit 8 on and the code's length in the bits
// below; a link to a second table has the linkFlag, the table's offset from
// bit 8 on and the second table's index width in the low bits. 0 is no code.
const (
	primaryBits = 10
	linkFlag    = 0x80
	lengthMask  = 0x7f
	maxCodeBits = 15
)

type huffman struct {
	table []uint32
}

// build makes the table for canonical codes of the given lengths (RFC 1951,
// 3.2.2); it reports false if they are over-subscribed, or incomplete other
// than by being a single code of one bit, or none at all.
func (h *huffman) build(lengths []uint8) bool {
	var count [maxCodeBits + 1]int
	codes := 0
	for _, n := range lengths {
		if n > 0 {
			count[n]++
			codes++
		}
	}
	h.table = grow(h.table, 1<<primaryBits)
	if codes == 0 {
		return true // any use of it is an error when it happens
	}
	left := 1
	var next [maxCodeBits + 2]int
	for n := 1; n <= maxCodeBits; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return false
		}
		next[n+1] = (next[n] + count[n]) << 1
	}
	if left > 0 && (codes != 1 || count[1] != 1) {
		return false
	}

	var first [maxCodeBits + 2]int
	copy(first[:], next[:])
	h.links(count, first)
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		code := next[n]
		next[n]++
		reversed := int(bits.Reverse16(uint16(code)) >> (16 - n))
		entry := uint32(sym)<<8 | uint32(n)
		if n <= primaryBits {
			for i := reversed; i < 1<<primaryBits; i += 1 << n {
				h.table[i] = entry
			}
			continue
		}
		link := h.table[reversed&(1<<primaryBits-1)]
		second := h.table[link>>8:]
		width := link & (linkFlag - 1)
		for i := reversed >> primaryBits; i < 1<<width; i += 1 << (n - primaryBits) {
			second[i] = entry
		}
	}
	return true
}

// links reserves the second tables. All codes that are longer than
// primaryBits and share their first primaryBits bits share a table that is
// wide enough for the longest of them.
func (h *huffman) links(count [maxCodeBits + 1]int, first [maxCodeBits + 2]int) {
	for n := maxCodeBits; n > primaryBits; n-- {
		for code := first[n]; code < first[n]+count[n]; code++ {
			prefix := bits.Reverse16(uint16(code>>(n-primaryBits))) >> (16 - primaryBits)
			if h.table[prefix] != 0 {
				continue // a longer code has made it
			}
			width := n - primaryBits
			offset := len(h.table)
			h.table = append(h.table, make([]uint32, 1<<width)...)
			h.table[prefix] = uint32(offset)<<8 | linkFlag | uint32(width)
		}
	}
}

// grow returns a zeroed slice of n entries, in the memory of t if it fits.
func grow(t []uint32, n int) []uint32 {
	if cap(t) < n {
		return make([]uint32, n, 2*n)
	}
	t = t[:n]
	clear(t)
	return t
}
