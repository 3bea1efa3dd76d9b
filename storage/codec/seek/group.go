package seek

import (
	"bytes"
	"fmt"
	"io"
)

// Inflate fills dst with the contents of gzip data from p on, p.In being an
// offset in src; p.Out is not used. The stretch may cross from one member of
// a gzip file into the next. Fewer bytes than dst wants are an error.
func Inflate(dst, src []byte, p Point) error {
	d := newDeflate(bytes.NewReader(src), int64(len(src)), true)
	if err := d.start(&p); err != nil {
		return err
	}
	if n, err := io.ReadFull(d, dst); err != nil {
		return fmt.Errorf("inflate: %d of %d bytes: %w", n, len(dst), err)
	}
	return nil
}
