package erofs

import (
	"encoding/binary"
	"runtime/debug"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/internal/mmap"
)

// longPrefix in a name index says that the rest is a position in the
// image's own table of prefixes.
const longPrefix = 0x80

// readPrefixes reads the table of long name prefixes: for each a length, the
// index of a short prefix and what follows it, aligned to 4 bytes.
func (im *Image) readPrefixes() error {
	s := &im.super
	if s.Incompat&IncompatXattrPrefixes == 0 {
		return nil
	}
	off := uint64(s.PrefixStart) * 4
	for range s.XattrPrefixes {
		if off+2 > uint64(len(im.data)) {
			return im.Errorf(int64(off), "xattr prefix table ends behind the image")
		}
		n := uint64(binary.LittleEndian.Uint16(im.data[off:]))
		if n < 1 || n > 256 || off+2+n > uint64(len(im.data)) {
			return im.Errorf(int64(off), "xattr prefix of %d bytes", n)
		}
		p := im.data[off+2 : off+2+n]
		base := XattrPrefix(p[0])
		if base != "" {
			base += string(p[1:])
		} // else what the format keeps for itself, such as digests: not shown, nor does Linux
		im.prefixes = append(im.prefixes, base)
		off = (off + 2 + n + 3) &^ 3
	}
	return nil
}

// xattrs walks the attributes of an inode: first those in the shared area,
// then the inline ones.
type xattrs struct {
	im     *Image
	shared []byte // ids that are left
	inline []byte // entries that are left
	off    uint64 // byte in the image of inline[0]
	prefix string
	suffix []byte
	value  []byte
}

// xattrs returns a walk of the attributes of n.
func (im *Image) xattrs(n *Node) (x xattrs, err error) {
	x.im = im
	if n.XattrSize == 0 {
		return x, nil
	}
	off := n.Offset + uint64(n.BodySize)
	b := im.data[off : off+uint64(n.XattrSize)]
	count := int(b[4])
	if XattrHeaderSize+count*XattrEntrySize > len(b) {
		return x, im.Errorf(int64(off), "inode %d: %d shared xattrs in %d bytes", n.NID, count, len(b))
	}
	ids := b[XattrHeaderSize:]
	x.shared, x.inline = ids[:count*XattrEntrySize], ids[count*XattrEntrySize:]
	x.off = off + XattrHeaderSize + uint64(count*XattrEntrySize)
	return x, nil
}

// next moves on to the next attribute with a known prefix. It returns false
// at the end and on an error.
func (x *xattrs) next() (bool, error) {
	for {
		var err error
		switch {
		case len(x.shared) > 0:
			err = x.nextShared()
		case len(x.inline) >= XattrEntrySize:
			err = x.nextInline()
		default:
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if x.prefix != "" {
			return true, nil
		}
	}
}

func (x *xattrs) nextShared() error {
	off := x.im.xattrBase + uint64(binary.LittleEndian.Uint32(x.shared))*XattrEntrySize
	x.shared = x.shared[XattrEntrySize:]
	if off >= uint64(len(x.im.data)) {
		return x.im.Errorf(int64(off), "shared xattr is behind the end of the image")
	}
	_, err := x.parse(x.im.data[off:], off)
	return err
}

func (x *xattrs) nextInline() error {
	size, err := x.parse(x.inline, x.off)
	if err != nil {
		return err
	}
	size = min((size+3)&^3, len(x.inline))
	x.inline, x.off = x.inline[size:], x.off+uint64(size)
	return nil
}

// parse reads the entry at the start of b and returns its length.
func (x *xattrs) parse(b []byte, off uint64) (int, error) {
	if len(b) < XattrEntrySize {
		return 0, x.im.Errorf(int64(off), "xattr entry is cut short")
	}
	nameEnd := XattrEntrySize + int(b[0])
	end := nameEnd + int(binary.LittleEndian.Uint16(b[2:]))
	if end > len(b) {
		return 0, x.im.Errorf(int64(off), "xattr of %d bytes ends behind its area", end)
	}
	if i := b[1]; i&longPrefix == 0 {
		x.prefix = XattrPrefix(i)
	} else if i &^= longPrefix; int(i) < len(x.im.prefixes) {
		x.prefix = x.im.prefixes[i]
	} else {
		return 0, x.im.Errorf(int64(off)+1, "xattr name prefix %d of %d", i, len(x.im.prefixes))
	}
	x.suffix, x.value = b[XattrEntrySize:nameEnd], b[nameEnd:end]
	return end, nil
}

// Xattr returns the value of the attribute with the full name.
func (im *Image) Xattr(nid uint64, name string) (value []byte, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.Node(nid, &n); err != nil {
		return nil, err
	}
	x, err := im.xattrs(&n)
	if err != nil {
		return nil, err
	}
	for {
		more, err := x.next()
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, image.ErrNoXattr
		}
		p := len(x.prefix)
		if len(name) == p+len(x.suffix) && name[:p] == x.prefix && name[p:] == string(x.suffix) {
			mmap.Touch(x.value)
			return x.value, nil
		}
	}
}

// ListXattr calls f for the attributes of nid until f returns false.
func (im *Image) ListXattr(nid uint64, f func(prefix string, suffix []byte) bool) (err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.Node(nid, &n); err != nil {
		return err
	}
	x, err := im.xattrs(&n)
	if err != nil {
		return err
	}
	for {
		more, err := x.next()
		if !more || err != nil {
			return err
		}
		if !f(x.prefix, x.suffix) {
			return nil
		}
	}
}
