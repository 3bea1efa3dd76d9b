package seek

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	windowSize = 32 << 10 // how far back deflate can refer
	maxMatch   = 258
	inputSize  = 64 << 10
	bufferSize = 4 * windowSize
)

// mode is what comes next in the stream.
type mode uint8

const (
	modeHeader mode = iota // a block's header, or what follows the stream
	modeStored             // bytes of a stored block
	modeCodes              // symbols of a compressed block
)

// errDeflate is what is wrong with a deflate stream.
type errDeflate string

func (e errDeflate) Error() string { return "deflate: " + string(e) }

// inflater decompresses a deflate stream (RFC 1951) and, unlike the ones in
// libraries, knows where in bits it is: it can stop at a block's border, say
// what is needed to go on from there, and start at such a place.
type inflater struct {
	src io.Reader
	in  []byte // bytes read and not yet in the bit buffer
	buf []byte // backs in
	pos int64  // bytes of the source that were taken into the bit buffer

	bitBuf uint64
	nbits  uint

	// out[start:] are the bytes of the stream that are still there: at least
	// the last windowSize of them. out[r:] waits to be read.
	out   []byte
	r     int
	total int64 // bytes put out since the start of the stream or point

	mode    mode
	final   bool // the block is the stream's last
	stored  int  // bytes left of a stored block
	lit     huffman
	dist    huffman
	lengths [286 + 30]uint8
	history int // bytes of out that a match may refer to, at most windowSize
}

func newInflater() *inflater {
	return &inflater{buf: make([]byte, inputSize), out: make([]byte, 0, bufferSize)}
}

// reset starts at a block's border: src gives the bytes from pos on, bits
// bits of first, its highest, come before them, and window is what was put
// out before.
func (f *inflater) reset(src io.Reader, pos int64, first byte, bits uint8, window []byte) {
	f.src, f.in, f.pos = src, nil, pos
	f.bitBuf, f.nbits = 0, 0
	if bits > 0 {
		f.bitBuf, f.nbits = uint64(first>>(8-bits)), uint(bits)
	}
	f.out = append(f.out[:0], window...)
	f.r = len(f.out)
	f.history = len(f.out)
	f.total = 0
	f.mode = modeHeader
	f.final = false
	f.stored = 0
}

// position returns where the next unread bit is: the offset of the first
// byte none of whose bits have been used, and how many of the bits of the
// byte before it are still unread, 0 to 7.
func (f *inflater) position() (pos int64, bits uint8) {
	return f.pos - int64(f.nbits/8), uint8(f.nbits % 8)
}

// window appends the bytes that a later block may refer to.
func (f *inflater) window(dst []byte) []byte {
	return append(dst, f.out[len(f.out)-min(f.history, windowSize):]...)
}

// pending returns what has been put out and not been taken.
func (f *inflater) pending() []byte { return f.out[f.r:] }

// take marks n bytes of pending as taken.
func (f *inflater) take(n int) { f.r += n }

// step decodes until something is pending or a border is reached: a block's
// end (border is true; the next bits are a block's header or, when done is
// true, what follows the stream).
func (f *inflater) step() (border, done bool, err error) {
	if len(f.out) >= bufferSize-windowSize && f.r == len(f.out) {
		// Keep the window only.
		keep := copy(f.out[:windowSize], f.out[len(f.out)-windowSize:])
		f.out = f.out[:keep]
		f.r = keep
	}
	switch f.mode {
	case modeHeader:
		err = f.blockHeader()
	case modeStored:
		err = f.storedBlock()
	case modeCodes:
		err = f.codes()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	border = f.mode == modeHeader
	return border, border && f.final, err
}

// fill brings at least n bits (up to 56) into the bit buffer; at the end of
// the source it brings what there is.
func (f *inflater) fill(n uint) error {
	for f.nbits < n {
		if len(f.in) == 0 {
			if err := f.readSource(); err != nil {
				return err
			}
		}
		f.bitBuf |= uint64(f.in[0]) << f.nbits
		f.in = f.in[1:]
		f.pos++
		f.nbits += 8
	}
	return nil
}

func (f *inflater) readSource() error {
	for range 100 {
		n, err := f.src.Read(f.buf)
		if n > 0 {
			f.in = f.buf[:n]
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// bits takes n bits, at most 32.
func (f *inflater) bits(n uint) (uint32, error) {
	if f.nbits < n {
		if err := f.fill(n); err != nil {
			return 0, err
		}
	}
	v := uint32(f.bitBuf & (1<<n - 1))
	f.bitBuf >>= n
	f.nbits -= n
	return v, nil
}

func (f *inflater) blockHeader() error {
	head, err := f.bits(3)
	if err != nil {
		return err
	}
	f.final = head&1 != 0
	switch head >> 1 {
	case 0:
		return f.storedHeader()
	case 1:
		f.fixedCodes()
	case 2:
		if err := f.dynamicCodes(); err != nil {
			return err
		}
	default:
		return errDeflate("block type 3")
	}
	f.mode = modeCodes
	return nil
}

func (f *inflater) storedHeader() error {
	f.bitBuf >>= f.nbits % 8
	f.nbits -= f.nbits % 8
	v, err := f.bits(32)
	if err != nil {
		return err
	}
	n := v & 0xffff
	if n != ^v>>16 {
		return errDeflate("length of a stored block does not match its complement")
	}
	f.stored = int(n)
	f.mode = modeStored
	return nil
}

func (f *inflater) storedBlock() error {
	for f.stored > 0 && f.nbits > 0 {
		b, err := f.bits(8)
		if err != nil {
			return err
		}
		f.put(byte(b))
		f.stored--
	}
	if f.stored > 0 {
		if len(f.in) == 0 {
			if err := f.readSource(); err != nil {
				return err
			}
		}
		n := min(f.stored, len(f.in), bufferSize-len(f.out))
		f.out = append(f.out, f.in[:n]...)
		f.in = f.in[n:]
		f.pos += int64(n)
		f.stored -= n
		f.wrote(n)
	}
	if f.stored == 0 {
		f.mode = modeHeader
	}
	return nil
}

func (f *inflater) put(b byte) {
	f.out = append(f.out, b)
	f.wrote(1)
}

func (f *inflater) wrote(n int) {
	f.history = min(f.history+n, windowSize)
	f.total += int64(n)
}

// fixedCodes sets the codes of block type 1 (RFC 1951, 3.2.6).
func (f *inflater) fixedCodes() {
	var l [288]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	f.lit.build(l[:])
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	f.dist.build(d[:])
}

// codeOrder is the order in which the lengths of the length codes are stored.
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the codes of block type 2 (RFC 1951, 3.2.7).
func (f *inflater) dynamicCodes() error {
	head, err := f.bits(14)
	if err != nil {
		return err
	}
	nlit, ndist, nlen := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if nlit > 286 || ndist > 30 {
		return errDeflate("too many codes")
	}
	var lens [19]uint8
	for _, at := range codeOrder[:nlen] {
		v, err := f.bits(3)
		if err != nil {
			return err
		}
		lens[at] = uint8(v)
	}
	if !f.dist.build(lens[:]) { // borrowed until its own codes are known
		return errDeflate("bad code lengths")
	}
	if err := f.codeLengths(f.lengths[:nlit+ndist]); err != nil {
		return err
	}
	if f.lengths[256] == 0 {
		return errDeflate("no end-of-block code")
	}
	if !f.lit.build(f.lengths[:nlit]) || !f.dist.build(f.lengths[nlit:nlit+ndist]) {
		return errDeflate("bad codes")
	}
	return nil
}

func (f *inflater) codeLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		sym, err := f.symbol(&f.dist)
		if err != nil {
			return err
		}
		if sym < 16 {
			lengths[i] = uint8(sym)
			i++
			continue
		}
		var value uint8
		var extra uint
		var base int
		switch sym {
		case 16:
			if i == 0 {
				return errDeflate("a length is repeated before there is one")
			}
			value, extra, base = lengths[i-1], 2, 3
		case 17:
			extra, base = 3, 3
		default:
			extra, base = 7, 11
		}
		v, err := f.bits(extra)
		if err != nil {
			return err
		}
		n := base + int(v)
		if n > len(lengths)-i {
			return errDeflate("too many code lengths")
		}
		for range n {
			lengths[i] = value
			i++
		}
	}
	return nil
}

// symbol decodes one symbol of h.
func (f *inflater) symbol(h *huffman) (int, error) {
	if f.nbits < maxCodeBits {
		// The stream may end with fewer bits than the longest code has.
		if err := f.fill(maxCodeBits); err != nil && err != io.EOF {
			return 0, err
		}
	}
	e := h.table[f.bitBuf&(1<<primaryBits-1)]
	if e&linkFlag != 0 {
		e = h.table[uint64(e>>8)+(f.bitBuf>>primaryBits)&(1<<(e&(linkFlag-1))-1)]
	}
	n := uint(e & lengthMask)
	if n == 0 {
		if f.nbits < maxCodeBits {
			return 0, io.EOF
		}
		return 0, errDeflate("no such code")
	}
	if n > f.nbits {
		return 0, io.EOF
	}
	f.bitBuf >>= n
	f.nbits -= n
	return int(e >> 8), nil
}

var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// codes decodes a block's symbols until the block ends or the buffer is
// full.
func (f *inflater) codes() error {
	for len(f.out) <= bufferSize-maxMatch {
		if len(f.in) >= 8 {
			f.refill()
		}
		sym, err := f.symbol(&f.lit)
		if err != nil {
			return err
		}
		switch {
		case sym < 256:
			f.put(byte(sym))
		case sym == 256:
			f.mode = modeHeader
			return nil
		case sym-257 >= len(lengthBase):
			return errDeflate("no such length")
		default:
			if err := f.match(sym - 257); err != nil {
				return err
			}
		}
	}
	return nil
}

// refill takes whole bytes into the bit buffer, 56 bits or more being there
// afterwards. The input has at least 8 bytes.
func (f *inflater) refill() {
	f.bitBuf |= binary.LittleEndian.Uint64(f.in) << f.nbits
	n := (63 - f.nbits) / 8
	f.in = f.in[n:]
	f.pos += int64(n)
	f.nbits += n * 8
	// Bits beyond nbits may be set: they are the very bits that the next
	// refill brings there, but fill ORs whole bytes and needs zeros.
	f.bitBuf &= 1<<f.nbits - 1
}

func (f *inflater) match(code int) error {
	extra, err := f.bits(uint(lengthExtra[code]))
	if err != nil {
		return err
	}
	length := int(lengthBase[code]) + int(extra)
	sym, err := f.symbol(&f.dist)
	if err != nil {
		return err
	}
	if sym >= len(distBase) {
		return errDeflate("no such distance")
	}
	if extra, err = f.bits(uint(distExtra[sym])); err != nil {
		return err
	}
	distance := int(distBase[sym]) + int(extra)
	if distance > f.history {
		return errDeflate(fmt.Sprintf("distance %d with %d bytes behind", distance, f.history))
	}
	n := len(f.out)
	out := f.out[:n+length]
	if distance >= length {
		copy(out[n:], out[n-distance:n-distance+length])
	} else {
		for i := n; i < n+length; i++ {
			out[i] = out[i-distance]
		}
	}
	f.out = out
	f.wrote(length)
	return nil
}
