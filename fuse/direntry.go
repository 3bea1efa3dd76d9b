package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/wire"
)

// DirEntry is a name in a directory.
type DirEntry struct {
	Mode uint32 // only the file type counts
	Name string
	Ino  uint64 // 0 counts as FUSE_UNKNOWN_INO

	// Off is the position after this entry: the offset of the ReadDir that
	// goes on behind it. 0 lets a DirEntryList number its entries.
	Off uint64
}

// String returns the type, in octal, the name and the numbers.
func (d *DirEntry) String() string {
	return fmt.Sprintf("%o: %q ino=%d off=%d", d.Mode, d.Name, d.Ino, d.Off)
}

// A DirEntryList is a reply to READDIR or READDIRPLUS in the making: entries
// are written into the bytes that the kernel will get. It is not safe for
// concurrent use.
//
// The kernel calls again with the last entry's Off until it gets an empty
// list. Entries must keep their offsets while a directory is open, or listings
// skip or repeat names.
type DirEntryList struct {
	// Offset is that of the last entry, at first the one that was asked for.
	Offset uint64

	buf  []byte // the whole room
	size int    // bytes used
	last int    // position of the last fuse_dirent, or -1
}

// NewDirEntryList returns a list that writes to data, whose length is the
// room that there is, and numbers its entries from off+1 on.
func NewDirEntryList(data []byte, off uint64) *DirEntryList {
	l := new(DirEntryList)
	l.reset(data, off)
	return l
}

// reset makes l what NewDirEntryList returns.
func (l *DirEntryList) reset(data []byte, off uint64) {
	*l = DirEntryList{Offset: off, buf: data, last: -1}
}

// Bytes returns what has been written.
func (l *DirEntryList) Bytes() []byte { return l.buf[:l.size] }

// AddDirEntry appends e and reports whether there was room; if not, the list
// is as it was.
func (l *DirEntryList) AddDirEntry(e DirEntry) bool {
	_, ok := l.add(0, e.Name, e.Ino, e.Mode, e.Off)
	return ok
}

// Add appends an entry, after prefix zero bytes, and reports whether there
// was room.
func (l *DirEntryList) Add(prefix int, name string, inode uint64, mode uint32) bool {
	_, ok := l.add(prefix, name, inode, mode, 0)
	return ok
}

// AddDirLookupEntry appends e for READDIRPLUS and returns where the answer to
// a LOOKUP of that name must be put, or nil if there was no room. An answer
// that is left zero is no reference: the kernel will look the name up itself.
// The result is good until the list's reply is sent.
func (l *DirEntryList) AddDirLookupEntry(e DirEntry) *EntryOut {
	start, ok := l.add(wire.EntryOutSize, e.Name, e.Ino, e.Mode, e.Off)
	if !ok {
		return nil
	}
	return (*EntryOut)(unsafe.Pointer(&l.buf[start]))
}

// FixMode sets the file type of the last entry, where its lookup tells better.
func (l *DirEntryList) FixMode(mode uint32) {
	if l.last >= 0 {
		binary.NativeEndian.PutUint32(l.buf[l.last+20:], direntType(mode))
	}
}

// add writes a record: prefix zero bytes, a fuse_dirent, the name, padding. It
// returns where the record starts.
func (l *DirEntryList) add(prefix int, name string, ino uint64, mode uint32, off uint64) (start int, ok bool) {
	start = l.size
	end := start + wire.Align8(prefix+wire.DirentSize+len(name))
	if prefix < 0 || len(name) == 0 || end < start || end > len(l.buf) {
		return start, false
	}
	if ino == 0 {
		ino = FUSE_UNKNOWN_INO
	}
	if off == 0 {
		off = l.Offset + 1
	}
	b := l.buf[start:end]
	clear(b[:prefix])
	d := b[prefix:]
	ne := binary.NativeEndian
	ne.PutUint64(d, ino)
	ne.PutUint64(d[8:], off)
	ne.PutUint32(d[16:], uint32(len(name)))
	ne.PutUint32(d[20:], direntType(mode))
	clear(d[wire.DirentSize+copy(d[wire.DirentSize:], name):])
	l.last, l.size, l.Offset = start+prefix, end, off
	return start, true
}

// direntType makes a DT_... of a file mode.
func direntType(mode uint32) uint32 { return mode >> 12 & 0xf }

// errDirEntries is what the parsers below return for bytes that are no list.
var errDirEntries = errors.New("fuse: malformed directory entries")

// ParseDirEntries decodes a reply to READDIR.
func ParseDirEntries(buf []byte) ([]DirEntry, error) {
	var es []DirEntry
	for len(buf) > 0 {
		e, n := parseDirent(buf)
		if n == 0 {
			return es, errDirEntries
		}
		es, buf = append(es, e), buf[n:]
	}
	return es, nil
}

// ParseDirLookupEntries decodes a reply to READDIRPLUS. The two results are
// equally long.
func ParseDirLookupEntries(buf []byte) ([]DirEntry, []EntryOut, error) {
	var es []DirEntry
	var outs []EntryOut
	for len(buf) > 0 {
		if len(buf) < wire.DirentplusSize {
			return es, outs, errDirEntries
		}
		var out EntryOut
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&out)), wire.EntryOutSize), buf)
		e, n := parseDirent(buf[wire.EntryOutSize:])
		if n == 0 {
			return es, outs, errDirEntries
		}
		es, outs, buf = append(es, e), append(outs, out), buf[wire.EntryOutSize+n:]
	}
	return es, outs, nil
}

// parseDirent decodes a fuse_dirent and returns how long it is with its name
// and padding, or 0 if b is not one.
func parseDirent(b []byte) (DirEntry, int) {
	if len(b) < wire.DirentSize {
		return DirEntry{}, 0
	}
	ne := binary.NativeEndian
	nameLen := ne.Uint32(b[16:])
	if nameLen == 0 || uint64(nameLen) > uint64(len(b)-wire.DirentSize) {
		return DirEntry{}, 0
	}
	n := wire.Align8(wire.DirentSize + int(nameLen))
	if n > len(b) {
		return DirEntry{}, 0
	}
	return DirEntry{
		Ino:  ne.Uint64(b),
		Off:  ne.Uint64(b[8:]),
		Name: string(b[wire.DirentSize:][:nameLen]),
		Mode: ne.Uint32(b[20:]) << 12,
	}, n
}
