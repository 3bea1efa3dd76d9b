package seek

import (
	"container/list"
	"io"
)

// blockSize is the unit in which contents are decompressed and kept, bytes.
const blockSize = 64 << 10

// blocks are the contents that were decompressed of late, by block number.
// What a read has to pass over on its way from a point is kept too: the
// small files of a tar lie side by side.
type blocks struct {
	limit int
	byNum map[int64]*list.Element
	used  list.List // of *block, most recently used first
}

// block is blockSize bytes, less only at the end of the contents. Its bytes
// do not change.
type block struct {
	num  int64
	data []byte
}

func (b *blocks) get(num int64) ([]byte, bool) {
	e, ok := b.byNum[num]
	if !ok {
		return nil, false
	}
	b.used.MoveToFront(e)
	return e.Value.(*block).data, true
}

func (b *blocks) put(num int64, data []byte) {
	if _, ok := b.byNum[num]; ok || b.byNum == nil { // nil: closed
		return
	}
	for b.used.Len() >= b.limit {
		old := b.used.Remove(b.used.Back()).(*block)
		delete(b.byNum, old.num)
	}
	b.byNum[num] = b.used.PushFront(&block{num, data})
}

// block returns block num, which is empty or short at the end of the
// contents.
func (r *ReaderAt) block(num int64) ([]byte, error) {
	r.mu.Lock()
	data, ok := r.blocks.get(num)
	r.mu.Unlock()
	if ok {
		return data, nil
	}
	c, data, err := r.acquire(num)
	if c == nil {
		return data, err
	}
	if err = r.pass(c, num*blockSize); err == nil {
		data, err = r.readBlock(c, num)
	}
	r.release(c, err)
	if err == io.EOF {
		err = nil
	}
	return data, err
}

// pass moves a cursor on to off, a block's start, and keeps the whole blocks
// on the way.
func (r *ReaderAt) pass(c *cursor, off int64) error {
	for c.at < off {
		if c.at%blockSize == 0 {
			if _, err := r.readBlock(c, c.at/blockSize); err != nil {
				return err
			}
			continue
		}
		if err := c.skip(min(off-c.at, blockSize-c.at%blockSize)); err != nil {
			return err
		}
	}
	return nil
}

// readBlock decompresses block num, at whose start the cursor is, and keeps
// it. At the end of the contents it returns what is left, and io.EOF.
func (r *ReaderAt) readBlock(c *cursor, num int64) ([]byte, error) {
	data := make([]byte, r.blockLen(num))
	n, err := io.ReadFull(c, data)
	if err == io.ErrUnexpectedEOF || err == nil && n < blockSize {
		err = c.finish()
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	data = data[:n:n]
	r.mu.Lock()
	r.blocks.put(num, data)
	r.mu.Unlock()
	return data, err
}

// blockLen is how long block num may be, by what is said of the contents: a
// small member of an archive takes no whole block.
func (r *ReaderAt) blockLen(num int64) int64 {
	if c := r.opts.Check; c != nil {
		return max(1, min(blockSize, c.Size-num*blockSize))
	}
	return blockSize
}
