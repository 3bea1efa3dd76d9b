package erofs

import (
	"encoding/binary"
	"math"
	"runtime/debug"

	"github.com/sluicefs/sluice/image"
)

// Node is an inode as it stands in the image.
type Node struct {
	Offset    uint64 // byte in the image
	BodySize  uint32 // CompactInodeSize or ExtendedInodeSize
	XattrSize uint32 // bytes of inline xattrs behind the body
	Layout    Layout
	Union     uint32 // start block, chunk format, compressed blocks or device number
	Ino       uint32 // what the builder counted; not an identity
	image.Inode
}

// End returns the byte behind the inode and its xattrs.
func (n *Node) End() uint64 { return n.Offset + uint64(n.BodySize) + uint64(n.XattrSize) }

func (n *Node) compressed() bool { return n.Layout == CompressedFull || n.Layout == CompressedCompact }

func (n *Node) isType(t uint32) bool { return n.Mode&image.TypeMask == t }

// Node reads the inode nid. The caller holds a [Image.Guard].
func (im *Image) Node(nid uint64, n *Node) error {
	if nid > math.MaxUint64/SlotSize-im.metaBase {
		return im.Errorf(-1, "inode %d is behind the end of the image", nid)
	}
	off := im.metaBase + nid*SlotSize
	if off > uint64(len(im.data)) || uint64(len(im.data))-off < CompactInodeSize {
		return im.Errorf(-1, "inode %d is behind the end of the image", nid)
	}
	b := im.data[off:]
	le := binary.LittleEndian
	format := le.Uint16(b)
	n.Offset, n.NID, n.Layout = off, nid, Layout(format>>1&7)
	n.Mode = uint32(le.Uint16(b[4:]))
	n.Union = le.Uint32(b[16:])
	n.Ino = le.Uint32(b[20:])
	switch {
	case format&^0xf != 0 || n.Layout > ChunkBased:
		return im.Errorf(int64(off), "inode %d: format %#x is not known", nid, format)
	case format&1 == 0:
		n.BodySize = CompactInodeSize
		n.Nlink = uint32(le.Uint16(b[6:]))
		n.Size = uint64(le.Uint32(b[8:]))
		n.UID, n.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		n.MTime = int64(im.super.Epoch) + int64(le.Uint32(b[12:]))
		n.MTimeNsec = im.super.EpochNsec
	case len(b) < ExtendedInodeSize:
		return im.Errorf(int64(off), "inode %d is cut short", nid)
	default:
		n.BodySize = ExtendedInodeSize
		n.Size = le.Uint64(b[8:])
		n.UID, n.GID = le.Uint32(b[24:]), le.Uint32(b[28:])
		n.MTime, n.MTimeNsec = int64(le.Uint64(b[32:])), le.Uint32(b[40:])
		n.Nlink = le.Uint32(b[44:])
	}
	n.XattrSize = 0
	if count := le.Uint16(b[2:]); count > 0 {
		n.XattrSize = XattrHeaderSize + uint32(count-1)*XattrEntrySize
	}
	if n.End() > uint64(len(im.data)) {
		return im.Errorf(int64(off), "inode %d: xattrs end behind the image", nid)
	}
	return im.finishNode(n)
}

// finishNode checks what depends on the type and sets what follows from it.
func (im *Image) finishNode(n *Node) error {
	if n.Size > math.MaxInt64 {
		return im.Errorf(int64(n.Offset), "inode %d: size %d is too large", n.NID, n.Size)
	}
	n.Rdev = 0
	switch n.Mode & image.TypeMask {
	case image.TypeRegular, image.TypeFIFO, image.TypeSocket:
	case image.TypeDirectory:
		if n.Size > uint64(len(im.data)) {
			return im.Errorf(int64(n.Offset), "inode %d: directory of %d bytes is larger than the image", n.NID, n.Size)
		}
	case image.TypeSymlink:
		if n.Size > MaxSymlinkLen {
			return im.Errorf(int64(n.Offset), "inode %d: symbolic link of %d bytes is too long", n.NID, n.Size)
		}
	case image.TypeChar, image.TypeBlock:
		n.Rdev = n.Union
	default:
		return im.Errorf(int64(n.Offset), "inode %d: mode %#o has no known file type", n.NID, n.Mode)
	}
	if n.compressed() {
		n.Blocks = uint64(n.Union) << im.super.BlockBits >> 9
	} else {
		n.Blocks = (n.Size + im.blockSize - 1) >> im.super.BlockBits << im.super.BlockBits >> 9
	}
	return nil
}

// Stat fills in with the attributes of nid.
func (im *Image) Stat(nid uint64, in *image.Inode) (err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.Node(nid, &n); err != nil {
		return err
	}
	*in = n.Inode
	return nil
}

// typed reads the inode nid and demands the file type t, named what.
func (im *Image) typed(nid uint64, n *Node, t uint32, what string) error {
	if err := im.Node(nid, n); err != nil {
		return err
	}
	if !n.isType(t) {
		return im.Errorf(int64(n.Offset), "inode %d is not a %s", nid, what)
	}
	return nil
}

// Regular reads the inode of the regular file nid. The caller holds a
// [Image.Guard].
func (im *Image) Regular(nid uint64, n *Node) error {
	return im.typed(nid, n, image.TypeRegular, "regular file")
}

func (im *Image) dir(nid uint64, n *Node) error {
	return im.typed(nid, n, image.TypeDirectory, "directory")
}
