package seek

import "io"

// Read reads on. The offset is moved here and not by callers, as a border
// inside of one of their reads needs to know it.
func (c *cursor) Read(p []byte) (int, error) {
	n, err := c.s.Read(p)
	c.at += int64(n)
	return n, err
}

// skip reads n bytes that nobody wants.
func (c *cursor) skip(n int64) error {
	var scratch [8 << 10]byte
	for n > 0 {
		m, err := io.ReadFull(c, scratch[:min(n, int64(len(scratch)))])
		n -= int64(m)
		if err == io.ErrUnexpectedEOF && c.ended() {
			err = io.EOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ended tells the end of the contents from compressed bytes that are cut
// short, both of which io.ReadFull reports alike.
func (c *cursor) ended() bool {
	var b [1]byte
	n, err := c.s.Read(b[:])
	return n == 0 && err == io.EOF
}

func (c *cursor) close() {
	if z, ok := c.s.(*frames); ok {
		z.close()
	}
}
