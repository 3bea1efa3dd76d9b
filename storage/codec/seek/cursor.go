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
		if err == io.ErrUnexpectedEOF {
			err = c.finish()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish returns io.EOF if the contents end here: as they should, with the
// checksum right.
func (c *cursor) finish() error {
	var b [1]byte
	n, err := c.s.Read(b[:])
	if n > 0 {
		return ErrChecksum // longer than it is said to be
	}
	return err
}

func (c *cursor) close() {
	switch s := c.s.(type) {
	case *frames:
		s.close()
	case *deflate:
		s.close()
	}
	c.s = nil
}
