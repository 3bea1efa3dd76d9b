package build

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

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
	digest [32]byte
}

// v5Image is the layout of a v5 bootstrap.
type v5Image struct {
	*model
	names  []v5Name // by number, which counts from 1
	inodes []*inode
	head   []byte // what stands before the records
	size   uint64
}

// encodeV5 lays out the v5 bootstrap of m.
func encodeV5(m *model) (*v5Image, error) {
	inodes, names := m.tree.finish()
	v := &v5Image{model: m, inodes: inodes, names: make([]v5Name, 1, names)}
	v.names[0] = v5Name{node: m.tree.root, name: "/"}
	for _, n := range v.inodes {
		if slices.Contains(n.chunks(), holeChunk) {
			return nil, errors.New("a hole without a chunk is not supported in RAFS v5")
		}
	}
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
	v.head = make([]byte, ext+v5ExtBlob*uint64(len(m.blobs)))
	size := uint64(len(v.head))
	for i := range v.names {
		le.PutUint32(v.head[table+4*uint64(i):], uint32(size>>3))
		size += v.recordSize(&v.names[i])
	}
	v.size = size
	if size >= v5MaxSize {
		return nil, fmt.Errorf("the bootstrap would have %d bytes, the limit is %d", size, int64(v5MaxSize)-1)
	}
	v.digest(0)
	o := v.head
	le.PutUint32(o, v5Magic)
	le.PutUint32(o[4:], v5Version)
	le.PutUint32(o[8:], v5SuperSize)
	le.PutUint32(o[12:], m.chunkSize)
	le.PutUint64(o[16:], uint64(m.superFlags(v.inodes)&^rafs.InlinedChunkDigest))
	le.PutUint64(o[24:], uint64(len(v.inodes)))
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
	return v, nil
}

func (v *v5Image) bytes() int64 { return int64(v.size) }

// writeTo writes the bootstrap.
func (v *v5Image) writeTo(to io.Writer) error {
	w := bufio.NewWriterSize(to, 1<<16)
	w.Write(v.head)
	var buf []byte
	for i := range v.names {
		n := &v.names[i]
		buf = append(buf[:0], make([]byte, v.recordSize(n))...)
		v.put(buf, n)
		w.Write(buf)
	}
	return w.Flush()
}

// number appends the names below names[at]: all of one directory, then those
// of its directories. The inode keeps the number of its first name.
func (v *v5Image) number(at int, seen map[*inode]bool) {
	dir := v.names[at].node
	dir.ino = uint32(at + 1)
	first := len(v.names)
	v.names[at].child = uint32(first + 1)
	for _, e := range dir.children() {
		again := seen[e.node]
		if !again && e.node.links > 1 && !e.node.isDir() {
			seen[e.node] = true
		}
		if !again {
			e.node.ino = uint32(len(v.names) + 1)
		}
		v.names = append(v.names, v5Name{node: e.node, name: e.name, parent: uint32(at + 1), again: again})
	}
	for i, e := range dir.children() {
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
	size := v5InodeSize + align64(uint64(len(n.name)), 8) + align64(uint64(len(n.node.target())), 8)
	if n.node.xattrs != nil {
		size += 8 + align64(v5XattrSize(n.node), 8)
	}
	return size + rafs.ChunkInfoSize*uint64(len(n.node.chunks()))
}

// digest sets the digests of names[at] and of all below it: of a file over
// its chunks' digests, of a directory over its children's.
func (v *v5Image) digest(at int) {
	n := &v.names[at]
	var of []byte
	switch {
	case n.node.isDir():
		for i := range n.node.children() {
			child := int(n.child) - 1 + i
			v.digest(child)
			of = append(of, v.names[child].digest[:]...)
		}
	case n.node.isRegular():
		for _, c := range n.node.chunks() {
			of = append(of, v.store.chunks.at(c).digest[:]...)
		}
	case n.node.isSymlink():
		of = []byte(n.node.target())
	}
	n.digest = digestOf(v.digester, of)
}

// put puts the record of one name into p, which is zeros.
func (v *v5Image) put(p []byte, n *v5Name) {
	le := binary.LittleEndian
	node := n.node
	flags, size, children := uint64(0), uint64(node.size), uint32(len(node.chunks()))
	xattrs := uint64(0)
	if node.xattrs != nil {
		flags |= v5FlagXattr
		xattrs = align64(v5XattrSize(node), 8)
	}
	switch {
	case node.isSymlink():
		flags |= v5FlagSymlink
		size = uint64(len(node.target()))
	case node.isDir():
		size, children = 0, uint32(len(node.children()))
		for _, e := range node.children() {
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
	le.PutUint16(p[102:], uint16(len(node.target())))
	le.PutUint32(p[104:], node.rdev)
	if !v.repeatable || node != v.tree.root {
		le.PutUint32(p[108:], node.mtimeNsec)
		le.PutUint64(p[112:], uint64(node.mtime))
	}
	copy(p[v5InodeSize:], n.name)
	p = p[v5InodeSize+align64(uint64(len(n.name)), 8):]
	copy(p, node.target())
	p = p[align64(uint64(len(node.target())), 8):]
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
	list, off := p[:0], uint64(0)
	for _, at := range node.chunks() {
		c := v.store.chunks.at(at)
		r := c.record(uint32(v.store.of(c).table))
		r.FileOffset = off
		off += uint64(r.UncompressedSize)
		list = r.Append(list)
	}
}
