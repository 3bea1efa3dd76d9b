package build

import (
	"math/bits"

	"github.com/sluicefs/sluice/image/erofs"
)

// space hands out room for inodes in slots of 32 bytes, and for blocks. What
// remains of a block when something must begin a new one goes to later
// requests that fit.
type space struct {
	block  uint64 // bytes, at most 4096
	cursor uint64 // end of what is handed out
	// gaps[n] are places with n free slots, taken from the end; filled has a
	// bit for each n that has some.
	gaps   [4096/erofs.SlotSize + 1][]uint64
	filled [3]uint64
}

// take returns the place of n bytes.
func (s *space) take(n uint64) uint64 {
	n = align64(n, erofs.SlotSize)
	if at, ok := s.fromGap(n); ok {
		return at
	}
	at := s.cursor
	s.cursor += n
	return at
}

// takeWhole returns the place of n bytes, at most a block, that lie in one
// block.
func (s *space) takeWhole(n uint64) uint64 {
	n = align64(n, erofs.SlotSize)
	if at, ok := s.fromGap(n); ok {
		return at
	}
	if s.cursor/s.block != (s.cursor+n-1)/s.block {
		s.skip()
	}
	at := s.cursor
	s.cursor += n
	return at
}

// blocks returns the place of n bytes, a multiple of the block size, that
// begin a block.
func (s *space) blocks(n uint64) uint64 {
	if s.cursor%s.block != 0 {
		s.skip()
	}
	at := s.cursor
	s.cursor += n
	return at
}

// skip goes to the next block and keeps the rest of this one.
func (s *space) skip() {
	next := align64(s.cursor, s.block)
	s.addGap(s.cursor, next-s.cursor)
	s.cursor = next
}

func (s *space) addGap(at, n uint64) {
	if i := n / erofs.SlotSize; i > 0 {
		s.gaps[i] = append(s.gaps[i], at)
		s.filled[i/64] |= 1 << (i % 64)
	}
}

// fromGap takes n bytes, a multiple of the slot size, from the smallest gap
// that has them. Gaps lie in one block.
func (s *space) fromGap(n uint64) (uint64, bool) {
	need := n / erofs.SlotSize
	if need >= uint64(len(s.gaps)) {
		return 0, false
	}
	word := need / 64
	set := s.filled[word] &^ (1<<(need%64) - 1)
	for set == 0 {
		if word++; word == uint64(len(s.filled)) {
			return 0, false
		}
		set = s.filled[word]
	}
	i := word*64 + uint64(bits.TrailingZeros64(set))
	list := s.gaps[i]
	at := list[len(list)-1]
	s.gaps[i] = list[:len(list)-1]
	if len(list) == 1 {
		s.filled[i/64] &^= 1 << (i % 64)
	}
	s.addGap(at+n, (i-need)*erofs.SlotSize)
	return at, true
}
