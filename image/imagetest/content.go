package imagetest

import (
	"bytes"
	"fmt"
)

// Content reads a whole regular file whose data is in the image itself.
func Content(tree interface {
	Inline([]byte, uint64, int64) (int, bool, error)
}, e *Entry) ([]byte, error) {
	var out bytes.Buffer
	buf := make([]byte, 100000) // not a multiple of the block size
	for off := int64(0); off < int64(e.Size); {
		n, inline, err := tree.Inline(buf, e.NID, off)
		if err != nil {
			return nil, err
		}
		if !inline || n == 0 {
			return nil, fmt.Errorf("inline data: got %d bytes at %d of %d, inline %v", n, off, e.Size, inline)
		}
		out.Write(buf[:n])
		off += int64(n)
	}
	return out.Bytes(), nil
}
