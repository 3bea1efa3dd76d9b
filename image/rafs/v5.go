package rafs

import (
	"encoding/binary"
	"io/fs"
	"math"
	"math/bits"
	"runtime/debug"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

const (
	formatV5      = "rafs v5"
	magicV5       = 0x52414653
	versionV5     = 0x500
	superSizeV5   = 8192
	inodeSizeV5   = 128
	extBlobSizeV5 = 64
	maxBlobsV5    = 4096
)

// Flags of an inode of version 5.
const (
	inodeSymlink  = 0x1
	inodeHardlink = 0x2 // not set by all writers
	inodeXattr    = 0x4
	inodeHole     = 0x8
)

// V5 is an open image of version 5. Inodes are numbered by their position in
// the inode table, from 1; the names of a hard link all have the number of
// the first.
type V5 struct {
	m          *mmap.Map
	data       []byte
	flags      SuperFlags
	chunkSize  uint32
	inodes     uint64 // hard links counted once
	table      []byte // inode table
	prefetch   []byte
	places     [][]uint64 // of the chunks of each blob in order, if the image does not number them
	blobs      []*storage.Blob
	digester   storage.Algorithm
	compressor storage.Compressor
}

var _ image.Tree = (*V5)(nil)

// inodeV5 is an inode and where its parts are.
type inodeV5 struct {
	slot       uint64 // position in the table, from 1
	ino        uint64
	parent     uint64
	off        uint64 // byte in the image
	size       int    // bytes with all parts
	flags      uint64
	childIndex uint32
	childCount uint32
	name       []byte
	target     []byte // of a symbolic link
	xattrs     []byte
	chunks     []byte // records
	digest     []byte
	image.Inode
}

func newV5(m *mmap.Map) (t *V5, err error) {
	t = &V5{m: m, data: m.Bytes()}
	defer t.guard(&err, debug.SetPanicOnFault(true))
	if err := t.readSuper(); err != nil {
		return nil, err
	}
	var root inodeV5
	if err := t.dir(1, &root); err != nil {
		return nil, err
	}
	return t, nil
}

// guard is to be deferred around reads of the mapping.
func (t *V5) guard(err *error, old bool) {
	debug.SetPanicOnFault(old)
	if e := t.m.Fault(recover()); e != nil {
		*err = t.errorf(-1, "%v", e)
	}
}

func (t *V5) errorf(offset int64, format string, args ...any) error {
	return formatError(formatV5, offset, format, args...)
}

// section returns the n records of size bytes at off; field is where off
// stands.
func (t *V5) section(what string, field int64, off, n, size uint64) ([]byte, error) {
	if off > uint64(len(t.data)) || n > (uint64(len(t.data))-off)/size {
		return nil, t.errorf(field, "superblock: %s of %d entries at %d ends behind the image", what, n, off)
	}
	return t.data[off : off+n*size], nil
}

func (t *V5) readSuper() (err error) {
	le := binary.LittleEndian
	b := t.data
	if len(b) < superSizeV5 {
		return t.errorf(-1, "%d bytes are too few for a superblock", len(b))
	}
	t.flags, t.chunkSize, t.inodes = SuperFlags(le.Uint64(b[16:])), le.Uint32(b[12:]), le.Uint64(b[24:])
	var ok bool
	if t.compressor, ok = t.flags.Compressor(); !ok {
		return t.errorf(16, "superblock: flags %#x name not one compressor", uint64(t.flags))
	}
	if t.digester, ok = t.flags.Digester(); !ok {
		return t.errorf(16, "superblock: flags %#x name not one digester", uint64(t.flags))
	}
	switch {
	case le.Uint32(b[8:]) != superSizeV5:
		return t.errorf(8, "superblock: says that it has %d bytes", le.Uint32(b[8:]))
	case t.flags&^(knownFlags|VariableChunks) != 0:
		return t.errorf(16, "superblock: flags %#x are not known", uint64(t.flags&^(knownFlags|VariableChunks)))
	case t.chunkSize < MinChunkSize || t.chunkSize > MaxChunkSize || bits.OnesCount32(t.chunkSize) != 1:
		return t.errorf(12, "superblock: chunk size %d is not a power of two from %d to %d", t.chunkSize, MinChunkSize, MaxChunkSize)
	}
	if t.table, err = t.section("inode table", 32, le.Uint64(b[32:]), uint64(le.Uint32(b[56:])), 4); err != nil {
		return err
	}
	if t.prefetch, err = t.section("prefetch table", 40, le.Uint64(b[40:]), uint64(le.Uint32(b[60:])), 4); err != nil {
		return err
	}
	names, err := t.section("blob table", 48, le.Uint64(b[48:]), uint64(le.Uint32(b[64:])), 1)
	if err != nil {
		return err
	}
	ext, err := t.section("extended blob table", 72, le.Uint64(b[72:]), uint64(le.Uint32(b[68:])), extBlobSizeV5)
	if err != nil {
		return err
	}
	return t.readBlobs(names, ext)
}

// readBlobs reads the blob table: two numbers and an id for each blob, with a
// NUL between two.
func (t *V5) readBlobs(names, ext []byte) error {
	at := int64(binary.LittleEndian.Uint64(t.data[48:]))
	for len(names) > 8 {
		id := cString(names[8:])
		if id == "" || len(id) > erofs.MaxNameLen || id[0] == '.' || !plainName(id) {
			return t.errorf(at+8, "blob table: id %q of blob %d is not a name", id, len(t.blobs))
		}
		if len(t.blobs) == maxBlobsV5 {
			return t.errorf(at, "blob table: more than %d blobs", maxBlobsV5)
		}
		t.blobs = append(t.blobs, &storage.Blob{
			ID: id, Index: len(t.blobs), ChunkSize: t.chunkSize, Compressor: t.compressor, Digester: t.digester,
		})
		n := min(8+len(id)+1, len(names))
		names, at = names[n:], at+int64(n)
		if len(names) > 0 && len(names) <= 8 && !allZero(names) {
			return t.errorf(at, "blob table: %d bytes behind the last blob", len(names))
		}
		if allZero(names) {
			break // padding
		}
	}
	if len(ext) == 0 {
		return t.measureBlobs()
	}
	if n := len(ext) / extBlobSizeV5; n != len(t.blobs) {
		return t.errorf(68, "superblock: %d entries in the extended blob table for %d blobs", n, len(t.blobs))
	}
	le := binary.LittleEndian
	for i, b := range t.blobs {
		e := ext[i*extBlobSizeV5:]
		info := BlobInfo{Features: BlobFeatures(le.Uint32(e[4:])), CompressedSize: le.Uint64(e[16:])}
		b.ChunkCount = le.Uint32(e)
		size := le.Uint64(e[8:])
		if b.ChunkCount > MaxChunks || size > 1<<44 || info.CompressedSize > 1<<40 {
			return t.errorf(72, "extended blob table: blob %d has %d chunks, %d bytes stored, %d uncompressed", i, b.ChunkCount, info.CompressedSize, size)
		}
		b.UncompressedSize, b.Size, b.DataSize = int64(size), int64(info.CompressedSize), info.dataSize()
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// inode reads the inode at a position of the table. The caller holds the
// guard.
func (t *V5) inode(slot uint64, n *inodeV5) error {
	if slot == 0 || slot > uint64(len(t.table)/4) {
		return t.errorf(-1, "inode %d of %d", slot, len(t.table)/4)
	}
	le := binary.LittleEndian
	off := uint64(le.Uint32(t.table[(slot-1)*4:])) << 3
	if off < superSizeV5 || off > uint64(len(t.data)) || uint64(len(t.data))-off < inodeSizeV5 {
		return t.errorf(int64(off), "inode %d is not within the image", slot)
	}
	b := t.data[off:]
	n.slot, n.off, n.parent, n.ino = slot, off, le.Uint64(b[32:]), le.Uint64(b[40:])
	n.flags, n.childIndex, n.childCount, n.digest = le.Uint64(b[80:]), le.Uint32(b[92:]), le.Uint32(b[96:]), b[:32]
	n.Inode = image.Inode{
		NID: slot, UID: le.Uint32(b[48:]), GID: le.Uint32(b[52:]), Mode: le.Uint32(b[60:]), Size: le.Uint64(b[64:]),
		Blocks: le.Uint64(b[72:]), Nlink: le.Uint32(b[88:]), Rdev: le.Uint32(b[104:]),
		MTimeNsec: le.Uint32(b[108:]), MTime: int64(le.Uint64(b[112:])),
	}
	return t.inodeParts(n, b, int(le.Uint16(b[100:])), int(le.Uint16(b[102:])))
}

// inodeParts finds what follows the inode n at the start of b: name, link
// target, xattrs, chunk records.
func (t *V5) inodeParts(n *inodeV5, b []byte, name, target int) error {
	at := inodeSizeV5 + align8(name) + align8(target)
	if name == 0 || name > erofs.MaxNameLen || target > erofs.MaxSymlinkLen || at > len(b) {
		return t.errorf(int64(n.off)+100, "inode %d: name of %d bytes and link target of %d", n.slot, name, target)
	}
	n.name = b[inodeSizeV5:][:name]
	n.target = b[inodeSizeV5+align8(name):][:target]
	n.xattrs, n.chunks, n.size = nil, nil, at
	if n.flags&inodeXattr != 0 {
		if len(b)-at < 8 {
			return t.errorf(int64(n.off), "inode %d: xattrs are cut short", n.slot)
		}
		size := binary.LittleEndian.Uint64(b[at:])
		at += 8
		if size > uint64(len(b)-at) {
			return t.errorf(int64(n.off), "inode %d: %d bytes of xattrs", n.slot, size)
		}
		n.xattrs = b[at:][:size]
		at += align8(int(size))
		n.size = at
	}
	switch n.Mode & image.TypeMask {
	case image.TypeRegular:
		if at > len(b) || uint64(n.childCount) > uint64(len(b)-at)/ChunkInfoSize {
			return t.errorf(int64(n.off), "inode %d: %d chunk records end behind the image", n.slot, n.childCount)
		}
		n.chunks = b[at:][:int(n.childCount)*ChunkInfoSize]
		n.size += len(n.chunks)
		if n.Size > uint64(n.childCount)*uint64(t.chunkSize) {
			return t.errorf(int64(n.off), "inode %d: %d bytes in %d chunks", n.slot, n.Size, n.childCount)
		}
	case image.TypeDirectory:
		// Children stand behind their directory, so there can be no cycle.
		if n.childCount > 0 && (uint64(n.childIndex) <= n.slot || uint64(n.childIndex)+uint64(n.childCount)-1 > uint64(len(t.table)/4)) {
			return t.errorf(int64(n.off)+92, "inode %d: children %d to %d", n.slot, n.childIndex, uint64(n.childIndex)+uint64(n.childCount)-1)
		}
	case image.TypeSymlink, image.TypeFIFO, image.TypeChar, image.TypeBlock, image.TypeSocket:
	default:
		return t.errorf(int64(n.off)+60, "inode %d: mode %#o has no known file type", n.slot, n.Mode)
	}
	if n.Size > math.MaxInt64 {
		return t.errorf(int64(n.off)+64, "inode %d: size %d is too large", n.slot, n.Size)
	}
	return nil
}

func align8(n int) int { return (n + 7) &^ 7 }

// nid returns the number that all names of the inode share.
func (t *V5) nid(n *inodeV5) uint64 {
	if n.ino == n.slot || n.Mode&image.TypeMask != image.TypeRegular || n.ino == 0 || n.ino > uint64(len(t.table)/4) {
		return n.slot
	}
	var first inodeV5
	if t.inode(n.ino, &first) != nil || first.ino != n.ino || first.Mode != n.Mode || first.Size != n.Size {
		return n.slot
	}
	return n.ino
}

func (t *V5) dir(nid uint64, n *inodeV5) error {
	if err := t.inode(nid, n); err != nil {
		return err
	}
	if n.Mode&image.TypeMask != image.TypeDirectory {
		return t.errorf(int64(n.off), "inode %d is not a directory", nid)
	}
	return nil
}

// Root returns 1.
func (t *V5) Root() uint64 { return 1 }

// Stat fills in with the attributes of nid.
func (t *V5) Stat(nid uint64, in *image.Inode) (err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n inodeV5
	if err := t.inode(nid, &n); err != nil {
		return err
	}
	*in = n.Inode
	return nil
}

// Lookup finds name among the children of dir, which are in order.
func (t *V5) Lookup(dir uint64, name string) (nid uint64, err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var d, n inodeV5
	if err := t.dir(dir, &d); err != nil {
		return 0, err
	}
	lo, hi := uint64(d.childIndex), uint64(d.childIndex)+uint64(d.childCount)
	for lo < hi {
		mid := lo + (hi-lo)/2
		if err := t.inode(mid, &n); err != nil {
			return 0, err
		}
		switch {
		case string(n.name) == name:
			return t.nid(&n), nil
		case string(n.name) < name:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	switch name {
	case ".":
		return dir, nil
	case "..":
		return t.parent(&d)
	}
	return 0, fs.ErrNotExist
}

// parent returns the number of the directory that n is in.
func (t *V5) parent(n *inodeV5) (uint64, error) {
	if n.slot == 1 {
		return 1, nil
	}
	if n.parent == 0 || n.parent >= n.slot {
		return 0, t.errorf(int64(n.off)+32, "inode %d: parent %d", n.slot, n.parent)
	}
	return n.parent, nil
}

var dots = [2][]byte{[]byte("."), []byte("..")}

// ReadDir calls f for ".", ".." and the children of dir. A cookie counts the
// entries.
func (t *V5) ReadDir(dir, cookie uint64, f func(image.Dirent) bool) (err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var d, n inodeV5
	if err := t.dir(dir, &d); err != nil {
		return err
	}
	for i := cookie; i < uint64(d.childCount)+2; i++ {
		e := image.Dirent{NID: dir, Next: i + 1, Type: image.TypeDirectory >> 12}
		switch i {
		case 0:
			e.Name = dots[0]
		case 1:
			e.Name = dots[1]
			if e.NID, err = t.parent(&d); err != nil {
				return err
			}
		default:
			if err := t.inode(uint64(d.childIndex)+i-2, &n); err != nil {
				return err
			}
			if !entryName(n.name) {
				return t.errorf(int64(n.off)+inodeSizeV5, "inode %d: %q is not a name", n.slot, n.name)
			}
			e.Name, e.NID, e.Type = n.name, t.nid(&n), uint8(n.Mode&image.TypeMask>>12)
		}
		if !f(e) {
			return nil
		}
	}
	return nil
}

// Readlink returns the target of a symbolic link.
func (t *V5) Readlink(nid uint64) (target []byte, err error) {
	defer t.guard(&err, debug.SetPanicOnFault(true))
	var n inodeV5
	if err := t.inode(nid, &n); err != nil {
		return nil, err
	}
	if n.Mode&image.TypeMask != image.TypeSymlink {
		return nil, t.errorf(int64(n.off), "inode %d is not a symbolic link", nid)
	}
	if !linkTarget(n.target) {
		return nil, t.errorf(int64(n.off), "inode %d: target of the symbolic link is empty or has a NUL", nid)
	}
	mmap.Touch(n.target)
	return n.target, nil
}

// Blobs returns the blobs in the order of the table.
func (t *V5) Blobs() []*storage.Blob { return t.blobs }

// Prefetch returns the inode numbers of the prefetch table. It allocates.
func (t *V5) Prefetch() (nids []uint64) {
	var err error
	defer t.guard(&err, debug.SetPanicOnFault(true))
	for b := t.prefetch; len(b) >= 4; b = b[4:] {
		nids = append(nids, uint64(binary.LittleEndian.Uint32(b)))
	}
	return nids
}

// Info says what the image is.
func (t *V5) Info() image.Info {
	return image.Info{
		Format: formatV5, Inodes: t.inodes, BlockSize: chunkBlockSize, ChunkSize: t.chunkSize,
		Size: int64(len(t.data)), Flags: uint64(t.flags), Digester: t.digester, Compressor: t.compressor,
	}
}

// Trim is that of image.Trimmer.
func (t *V5) Trim() { t.m.Trim() }

// Close gives the mapping back.
func (t *V5) Close() error { return t.m.Close() }
