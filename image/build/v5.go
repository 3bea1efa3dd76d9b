package build

import (
	"encoding/binary"
	"fmt"

	"github.com/sluicefs/sluice/image/rafs"
)

// Sizes in a v5 bootstrap, in bytes.
const (
	v5SuperSize = 8192
	v5InodeSize = 128
	v5Magic     = 0x52414653
	v5Version   = 0x500
	v5ExtBlob   = 64
	v5MaxSize   = 1 << 32 // the inode table counts in 8 bytes, below 2^29

	v5FlagSymlink  = 1
	v5FlagHardlink = 2
	v5FlagXattr    = 4
)

// v5Name is a name in the image: v5 keeps a record for each, also for those
// of one hard link.
type v5Name struct {
	node   *inode
	name   string
	parent uint32
	child  uint32 // number of the first child of a directory
	again  bool   // the inode had a name before
	off    uint64
	digest [32]byte
}

// v5Image is the layout of a v5 bootstrap.
type v5Image struct {
	*model
	names []v5Name // by number, which counts from 1
	out   []byte
}

// encodeV5 returns the v5 bootstrap of m.
func encodeV5(m *model) ([]byte, error) {
	inodes, _ := m.tree.finish()
	v := &v5Image{model: m, names: []v5Name{{node: m.tree.root, name: "/"}}}
	v.number(0, map[*inode]bool{})

	le := binary.LittleEndian
	entries := align64(uint64(len(v.names)), 2)
	table := uint64(v5SuperSize)
	prefetch := table + 4*entries
	blobTable := prefetch + align64(4*uint64(len(m.prefetch)), 8)
	var blobs []byte
	for i, b := range m.blobs {
		if i > 0 {
			blobs = append(blobs, 0)
		}
		blobs = le.AppendUint32(blobs, 0)
		blobs = le.AppendUint32(blobs, uint32(min(b.prefetch, 1<<32-1)))
		blobs = append(blobs, b.id...)
	}
	blobTableSize := align64(uint64(len(blobs)), 8)
	ext := blobTable + blobTableSize
	size := ext + v5ExtBlob*uint64(len(m.blobs))
	for i := range v.names {
		v.names[i].off = size
		size += v.recordSize(&v.names[i])
	}
	if size >= v5MaxSize {
		return nil, fmt.Errorf("the bootstrap would have %d bytes, the limit is %d", size, int64(v5MaxSize)-1)
	}
	v.digest(0)
	v.out = make([]byte, size)
	o := v.out
	le.PutUint32(o, v5Magic)
	le.PutUint32(o[4:], v5Version)
	le.PutUint32(o[8:], v5SuperSize)
	le.PutUint32(o[12:], m.chunkSize)
	le.PutUint64(o[16:], uint64(m.superFlags(inodes)&^rafs.InlinedChunkDigest))
	le.PutUint64(o[24:], uint64(len(inodes)))
	le.PutUint64(o[32:], table)
	le.PutUint64(o[40:], prefetch)
	le.PutUint64(o[48:], blobTable)
	le.PutUint32(o[56:], uint32(len(v.names)))
	le.PutUint32(o[60:], uint32(len(m.prefetch)))
	le.PutUint32(o[64:], uint32(blobTableSize))
	le.PutUint32(o[68:], uint32(len(m.blobs)))
	if len(m.blobs) > 0 {
		le.PutUint64(o[72:], ext)
	}
	for i := range v.names {
		le.PutUint32(o[table+4*uint64(i):], uint32(v.names[i].off>>3))
	}
	for i, n := range m.prefetch {
		le.PutUint32(o[prefetch+4*uint64(i):], n.ino)
	}
	copy(o[blobTable:], blobs)
	for i, b := range m.blobs {
		p := o[ext+v5ExtBlob*uint64(i):]
		le.PutUint32(p, b.info.ChunkCount)
		le.PutUint32(p[4:], uint32(b.info.Features))
		le.PutUint64(p[8:], b.info.UncompressedSize)
		le.PutUint64(p[16:], b.info.CompressedSize)
	}
	for i := range v.names {
		if err := v.write(&v.names[i]); err != nil {
			return nil, err
		}
	}
	return v.out, nil
}

// number appends the names below names[at]: all of one directory, then those
// of its directories. The inode keeps the number of its first name.
func (v *v5Image) number(at int, seen map[*inode]bool) {
	dir := v.names[at].node
	dir.ino = uint32(at + 1)
	first := len(v.names)
	v.names[at].child = uint32(first + 1)
	for _, e := range dir.children {
		again := seen[e.node]
		if !again && e.node.links > 1 && !e.node.isDir() {
			seen[e.node] = true
		}
		if !again {
			e.node.ino = uint32(len(v.names) + 1)
		}
		v.names = append(v.names, v5Name{node: e.node, name: e.name, parent: uint32(at + 1), again: again})
	}
	for i, e := range dir.children {
		if e.node.isDir() {
			v.number(first+i, seen)
		}
	}
}

// xattrSize is the bytes of the attributes of n, without their head.
func v5XattrSize(n *inode) (size uint64) {
	if n.xattrs == nil {
		return 0
	}
	for _, x := range n.xattrs.list {
		size += uint64(4 + len(x.name) + 1 + len(x.value))
	}
	return size
}

func (v *v5Image) recordSize(n *v5Name) uint64 {
	size := v5InodeSize + align64(uint64(len(n.name)), 8) + align64(uint64(len(n.node.target)), 8)
	if n.node.xattrs != nil {
		size += 8 + align64(v5XattrSize(n.node), 8)
	}
	return size + rafs.ChunkInfoSize*uint64(len(n.node.chunks))
}

// digest sets the digests of names[at] and of all below it: of a file over
// its chunks' digests, of a directory over its children's.
func (v *v5Image) digest(at int) {
	n := &v.names[at]
	var of []byte
	switch {
	case n.node.isDir():
		for i := range n.node.children {
			child := int(n.child) - 1 + i
			v.digest(child)
			of = append(of, v.names[child].digest[:]...)
		}
	case n.node.isRegular():
		for _, c := range n.node.chunks {
			if c != holeChunk {
				of = append(of, v.chunks.at(c).digest[:]...)
			}
		}
	case n.node.isSymlink():
		of = []byte(n.node.target)
	}
	n.digest = digestOf(v.digester, of)
}

// write writes the record of one name.
func (v *v5Image) write(n *v5Name) error {
	le := binary.LittleEndian
	p, node := v.out[n.off:], n.node
	flags, size, children := uint64(0), uint64(node.size), uint32(len(node.chunks))
	xattrs := uint64(0)
	if node.xattrs != nil {
		flags |= v5FlagXattr
		xattrs = align64(v5XattrSize(node), 8)
	}
	switch {
	case node.isSymlink():
		flags |= v5FlagSymlink
		size = uint64(len(node.target))
	case node.isDir():
		size, children = 0, uint32(len(node.children))
		for _, e := range node.children {
			size += uint64(len(e.name) + 8)
		}
		size = max(align64(size, 4096), 4096)
	}
	if n.again {
		flags |= v5FlagHardlink
	}
	copy(p, n.digest[:])
	le.PutUint64(p[32:], uint64(n.parent))
	le.PutUint64(p[40:], uint64(node.ino))
	if !v.repeatable {
		le.PutUint32(p[48:], node.uid)
		le.PutUint32(p[52:], node.gid)
	}
	le.PutUint32(p[60:], node.mode)
	le.PutUint64(p[64:], size)
	le.PutUint64(p[72:], (size+xattrs+511)/512)
	le.PutUint64(p[80:], flags)
	le.PutUint32(p[88:], node.links)
	if node.isDir() {
		le.PutUint32(p[92:], n.child)
	}
	le.PutUint32(p[96:], children)
	le.PutUint16(p[100:], uint16(len(n.name)))
	le.PutUint16(p[102:], uint16(len(node.target)))
	le.PutUint32(p[104:], node.rdev)
	if !v.repeatable || node != v.tree.root {
		le.PutUint32(p[108:], node.mtimeNsec)
		le.PutUint64(p[112:], uint64(node.mtime))
	}
	copy(p[v5InodeSize:], n.name)
	p = p[v5InodeSize+align64(uint64(len(n.name)), 8):]
	copy(p, node.target)
	p = p[align64(uint64(len(node.target)), 8):]
	if node.xattrs != nil {
		le.PutUint64(p, v5XattrSize(node))
		at := p[8:8]
		for _, x := range node.xattrs.list {
			at = le.AppendUint32(at, uint32(len(x.name)+1+len(x.value)))
			at = append(at, x.name...)
			at = append(at, 0)
			at = append(at, x.value...)
		}
		p = p[8+xattrs:]
	}
	at, off := p[:0], uint64(0)
	for _, c := range node.chunks {
		if c == holeChunk {
			return fmt.Errorf("a hole without a chunk (in %s) is not supported in RAFS v5", n.name)
		}
		c := v.chunks.at(c)
		r := c.record(uint32(c.blob.table))
		r.FileOffset = off
		off += uint64(r.UncompressedSize)
		at = r.Append(at)
	}
	return nil
}
