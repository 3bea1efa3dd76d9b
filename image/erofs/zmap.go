package erofs

import (
	"encoding/binary"
	"math/bits"
)

// Compressed files are cut into logical clusters of a fixed size. The data
// of one or more of them is compressed together to a physical cluster of
// whole blocks. An index for each logical cluster says where one begins:
// source fs/erofs/zmap.c of the Linux kernel.

// Types of a logical cluster.
const (
	clusterPlain   = 0 // a stretch that is stored as it is begins in it
	clusterHead1   = 1 // a compressed stretch begins in it, by the first algorithm
	clusterNonHead = 2 // a stretch that began before goes on
	clusterHead2   = 3
)

// Bits of the advice in the header of a compressed file.
const (
	adviceCompact2B  = 0x1
	adviceBig1       = 0x2 // clusters of the first algorithm may have several blocks
	adviceBig2       = 0x4
	adviceInterlaced = 0x10 // plain stretches stand at their place in the block
	knownAdvice      = adviceCompact2B | adviceBig1 | adviceBig2 | adviceInterlaced
)

// blockCount in the distance to a head says that the number of blocks stands
// there instead.
const blockCount = 1 << 11

// maxStretch bounds a decompressed stretch, in bytes, as the kernel does.
const maxStretch = 12 << 20

// zfile is a compressed file.
type zfile struct {
	im         *Image
	n          *Node
	base       uint64 // byte of the first index
	bits       uint   // log2 of the logical cluster
	advice     uint16
	algorithms [2]uint8 // of heads 1 and 2
	clusters   uint64
}

// zindex is the index of one logical cluster.
type zindex struct {
	lcn    uint64
	kind   uint8
	offset uint32 // byte in the cluster at which the stretch begins, of heads
	block  uint32 // of heads
	back   uint64 // clusters to the head or to one nearer to it, of others
	blocks uint32 // of the physical cluster, if the index has them
}

// stretch is a run of a file that is compressed together.
type stretch struct {
	start, end uint64 // bytes of the file
	kind       uint8
	off, size  uint64 // stored bytes
}

// compressed reads the header of the compressed file n.
func (im *Image) compressed(n *Node) (z zfile, err error) {
	at := (n.End() + 7) &^ 7
	if at > uint64(len(im.data)) || uint64(len(im.data))-at < 8 {
		return z, im.Errorf(int64(n.Offset), "inode %d: header of compressed data is behind the image", n.NID)
	}
	h := im.data[at:]
	z = zfile{im: im, n: n, base: at + 8, advice: binary.LittleEndian.Uint16(h[4:])}
	z.algorithms = [2]uint8{h[6] & 0xf, h[6] >> 4}
	z.bits = uint(im.super.BlockBits) + uint(h[7]&0xf)
	if n.Layout == CompressedFull {
		z.base += 8
	}
	if z.advice&^knownAdvice != 0 || h[7]&0xf0 != 0 || z.bits > 20 {
		return z, im.Errorf(int64(at), "inode %d: compressed data of kind %#x, cluster bits %#x is not supported", n.NID, z.advice, h[7])
	}
	z.clusters = (n.Size + 1<<z.bits - 1) >> z.bits
	return z, nil
}

func (z *zfile) corrupt(lcn uint64, what string) error {
	return z.im.Errorf(int64(z.n.Offset), "inode %d: index of cluster %d: %s", z.n.NID, lcn, what)
}

// at returns n bytes of the image.
func (z *zfile) at(off, n uint64) ([]byte, error) {
	if off > uint64(len(z.im.data)) || n > uint64(len(z.im.data))-off {
		return nil, z.im.Errorf(int64(z.n.Offset), "inode %d: cluster indexes end behind the image", z.n.NID)
	}
	return z.im.data[off : off+n], nil
}

// index reads the index of cluster lcn.
func (z *zfile) index(lcn uint64) (zindex, error) {
	if lcn >= z.clusters {
		return zindex{}, z.corrupt(lcn, "is behind the file")
	}
	if z.n.Layout == CompressedFull {
		return z.fullIndex(lcn)
	}
	return z.compactIndex(lcn)
}

func (z *zfile) fullIndex(lcn uint64) (x zindex, err error) {
	b, err := z.at(z.base+lcn*8, 8)
	if err != nil {
		return x, err
	}
	le := binary.LittleEndian
	x = zindex{lcn: lcn, kind: uint8(le.Uint16(b) & 3), offset: uint32(le.Uint16(b[2:])), block: le.Uint32(b[4:])}
	if x.kind == clusterNonHead {
		err = z.setBack(&x, uint32(le.Uint16(b[4:])))
	} else {
		err = z.checkOffset(&x)
	}
	return x, err
}

func (z *zfile) checkOffset(x *zindex) error {
	if x.offset >= 1<<z.bits {
		return z.corrupt(x.lcn, "begins behind the cluster")
	}
	return nil
}

// setBack takes what stands as the distance to the head.
func (z *zfile) setBack(x *zindex, v uint32) error {
	x.back = uint64(v)
	if v&blockCount != 0 {
		x.blocks, x.back = v&^blockCount, 1
		if z.advice&(adviceBig1|adviceBig2) == 0 || x.blocks == 0 {
			return z.corrupt(x.lcn, "has a number of blocks")
		}
	}
	return nil
}

// pack is a group of compact indexes: so many bits for each, then the block
// that the first head before them begins at.
type pack struct {
	b     []byte
	count int  // of indexes
	width uint // bits of an index
	low   uint // bits of an index without its type
}

func (p *pack) get(i int) (v uint32, kind uint8) {
	pos := uint(i) * p.width
	var word [8]byte
	copy(word[:], p.b[pos/8:])
	w := binary.LittleEndian.Uint64(word[:]) >> (pos % 8)
	return uint32(w & (1<<p.low - 1)), uint8(w >> p.low & 3)
}

// packOf returns the pack that has the index of cluster lcn, and which one in
// it that is. Packs of two indexes have 8 bytes, packs of sixteen 32; the
// latter stand in the middle, aligned to their size.
func (z *zfile) packOf(lcn uint64) (p pack, i int, err error) {
	first := (32 - z.base%32) / 4 & 7
	middle := uint64(0)
	if z.advice&adviceCompact2B != 0 && first < z.clusters {
		middle = (z.clusters - first) &^ 15
	}
	pos, shift := z.base, uint(2)
	switch {
	case lcn < first:
	case lcn-first < middle:
		pos, lcn, shift = pos+first*4, lcn-first, 1
	default:
		pos, lcn = pos+first*4+middle*2, lcn-first-middle
	}
	pos += lcn << shift
	p.count = 2
	if shift == 1 {
		p.count = 16
	}
	if shift == 1 && z.bits > 12 || z.bits > 14 {
		return p, 0, z.corrupt(lcn, "is too narrow for the cluster")
	}
	size := uint64(p.count) << shift
	start := pos &^ (size - 1)
	p.width = uint(size-4) * 8 / uint(p.count)
	p.low = max(z.bits, uint(bits.TrailingZeros(blockCount))+1)
	p.b, err = z.at(start, size)
	return p, int((pos - start) >> shift), err
}

func (z *zfile) compactIndex(lcn uint64) (x zindex, err error) {
	p, i, err := z.packOf(lcn)
	if err != nil {
		return x, err
	}
	v, kind := p.get(i)
	x = zindex{lcn: lcn, kind: kind, offset: v}
	if kind == clusterNonHead {
		if i+1 < p.count || v&blockCount != 0 {
			err = z.setBack(&x, v)
			return x, err
		}
		// The last of a pack has the distance to the next head; that to its
		// own follows from the one before.
		before := uint32(0)
		if i > 0 {
			if v, kind := p.get(i - 1); kind == clusterNonHead {
				if before = v; v&blockCount != 0 {
					before = 1
				}
			}
		}
		x.back = uint64(before) + 1
		return x, nil
	}
	if err := z.checkOffset(&x); err != nil {
		return x, err
	}
	blocks, err := z.blocksBefore(&p, i, lcn)
	x.block = binary.LittleEndian.Uint32(p.b[len(p.b)-4:]) + blocks
	return x, err
}

// blocksBefore counts the blocks of the physical clusters that begin in a
// pack before its index i.
func (z *zfile) blocksBefore(p *pack, i int, lcn uint64) (blocks uint32, err error) {
	big := z.advice&(adviceBig1|adviceBig2) != 0
	if !big {
		blocks = 1
	}
	for i > 0 {
		i--
		v, kind := p.get(i)
		switch {
		case !big:
			if kind == clusterNonHead {
				i -= int(v)
			}
			if i >= 0 {
				blocks++
			}
		case kind != clusterNonHead:
			blocks++
		case v&blockCount != 0:
			i--
			blocks += v &^ blockCount
		case v <= 1:
			return 0, z.corrupt(lcn, "has no number of blocks before it")
		default:
			i -= int(v) - 2
		}
	}
	return blocks, nil
}

// find returns the stretch that has the byte off of the file.
func (z *zfile) find(off uint64) (s stretch, err error) {
	x, err := z.index(off >> z.bits)
	if err != nil {
		return s, err
	}
	if x.kind != clusterNonHead && off < x.lcn<<z.bits+uint64(x.offset) {
		x.kind, x.back = clusterNonHead, 1 // the stretch of the cluster before
	}
	for x.kind == clusterNonHead {
		if x.back == 0 || x.back > x.lcn || (off>>z.bits-x.lcn)<<z.bits > maxStretch {
			return s, z.corrupt(x.lcn, "leads to no head")
		}
		if x, err = z.index(x.lcn - x.back); err != nil {
			return s, err
		}
	}
	s = stretch{start: x.lcn<<z.bits + uint64(x.offset), kind: x.kind, off: uint64(x.block) << z.im.super.BlockBits}
	if s.end, err = z.end(x.lcn); err != nil {
		return s, err
	}
	if off < s.start || off >= s.end || s.end-s.start > maxStretch {
		return s, z.corrupt(x.lcn, "is of bytes that it has not")
	}
	s.size, err = z.stored(&x)
	return s, err
}

// end returns the byte behind the stretch that begins in cluster lcn.
func (z *zfile) end(lcn uint64) (uint64, error) {
	start := lcn
	for lcn++; lcn < z.clusters; lcn++ {
		x, err := z.index(lcn)
		if err != nil {
			return 0, err
		}
		if x.kind != clusterNonHead {
			return lcn<<z.bits + uint64(x.offset), nil
		}
		if (lcn-start)<<z.bits > maxStretch {
			return 0, z.corrupt(start, "begins a stretch that is too long")
		}
	}
	return z.n.Size, nil
}

// stored returns the bytes of the physical cluster that the head x begins.
func (z *zfile) stored(x *zindex) (uint64, error) {
	big := uint16(adviceBig1)
	if x.kind == clusterHead2 {
		big = adviceBig2
	}
	one := uint64(1) << z.bits
	if z.advice&big == 0 || x.lcn+1 >= z.clusters {
		if z.advice&big != 0 {
			return z.im.blockSize, nil
		}
		return one, nil
	}
	next, err := z.index(x.lcn + 1)
	switch {
	case err != nil:
		return 0, err
	case next.kind != clusterNonHead:
		return one, nil
	case next.blocks == 0:
		return 0, z.corrupt(next.lcn, "has no number of blocks")
	}
	return uint64(next.blocks) << z.im.super.BlockBits, nil
}
