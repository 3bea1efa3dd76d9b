package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// verityBlock is the size of data and hash blocks, in bytes.
const verityBlock = 4096

// Verity says how the kernel's dm-verity checks a file: SHA-256, no salt, no
// superblock, blocks of 4096 bytes.
type Verity struct {
	RootHash   [32]byte
	DataBlocks int64
	HashOffset int64 // bytes
}

// String returns the arguments of "veritysetup open" after the devices.
func (v *Verity) String() string {
	return fmt.Sprintf("--no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=%d --hash-block-size=%d --data-blocks %d --hash-offset %d %s",
		verityBlock, verityBlock, v.DataBlocks, v.HashOffset, hex.EncodeToString(v.RootHash[:]))
}

// appendVerity appends the hash tree of the first size bytes of f, a multiple
// of the block size. On disk the level below the root comes first.
func appendVerity(f *os.File, size int64) (*Verity, error) {
	if size%verityBlock != 0 {
		return nil, fmt.Errorf("%d bytes are not a multiple of %d", size, verityBlock)
	}
	var levels [][]byte
	level, err := hashBlocks(bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20), size/verityBlock)
	for err == nil {
		levels = append(levels, level)
		if len(level) == verityBlock {
			break
		}
		level, err = hashBlocks(bytes.NewReader(level), int64(len(level)/verityBlock))
	}
	if err != nil {
		return nil, err
	}
	v := &Verity{DataBlocks: size / verityBlock, HashOffset: size, RootHash: sha256.Sum256(levels[len(levels)-1])}
	at := size
	for i := len(levels) - 1; i >= 0; i-- {
		n, err := f.WriteAt(levels[i], at)
		if err != nil {
			return nil, err
		}
		at += int64(n)
	}
	return v, nil
}

// hashBlocks returns the digests of n blocks, padded to whole blocks.
func hashBlocks(r io.Reader, n int64) ([]byte, error) {
	out := make([]byte, 0, (n*sha256.Size+verityBlock-1)/verityBlock*verityBlock)
	var block [verityBlock]byte
	for range n {
		if _, err := io.ReadFull(r, block[:]); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(block[:])
		out = append(out, sum[:]...)
	}
	return out[:cap(out)], nil
}
