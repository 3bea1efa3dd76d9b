package sys

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// Dirent is an entry in a buffer that Getdents has filled. Name, and NUL,
// which is the name with its NUL, lie in the buffer.
type Dirent struct {
	Ino, Off uint64
	Mode     uint32 // the file type, as in st_mode; 0: not known
	Name     string
	NUL      []byte
	Size     int // bytes of the record; 0: malformed
}

// direntHead is what struct linux_dirent64 has before the name, bytes.
const direntHead = 19

// ParseDirent decodes the first entry of b.
func ParseDirent(b []byte) (e Dirent) {
	if len(b) < direntHead+1 {
		return e
	}
	ne := binary.NativeEndian
	size := int(ne.Uint16(b[16:]))
	if size < direntHead+1 || size > len(b) {
		return e
	}
	end := bytes.IndexByte(b[direntHead:size], 0)
	if end <= 0 {
		return e
	}
	e.Ino, e.Off = ne.Uint64(b), ne.Uint64(b[8:])
	e.Mode = uint32(b[18]) << 12
	e.NUL = b[direntHead : direntHead+end+1]
	e.Name = unsafe.String(&b[direntHead], end)
	e.Size = size
	return e
}
