package fuse

import (
	"bytes"
	"encoding/binary"
)

// Size of linux_dirent64 before the name, and where its fields are.
const (
	dirent64Size   = 19
	dirent64Reclen = 16
	dirent64Type   = 18
)

// Parse decodes the first record of what getdents64(2) wrote to buf and
// returns its length, or 0 if buf does not begin with a whole record.
func (d *DirEntry) Parse(buf []byte) int {
	if len(buf) < dirent64Size {
		return 0
	}
	ne := binary.NativeEndian
	n := int(ne.Uint16(buf[dirent64Reclen:]))
	if n <= dirent64Size || n > len(buf) {
		return 0
	}
	name := buf[dirent64Size:n]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	*d = DirEntry{
		Ino:  ne.Uint64(buf),
		Off:  ne.Uint64(buf[8:]),
		Mode: uint32(buf[dirent64Type]) << 12,
		Name: string(name),
	}
	return n
}
