package build

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"syscall"

	"github.com/sluicefs/sluice/image/erofs"
)

// direntTypes are the file types in directory entries, by type bits of mode.
var direntTypes = map[uint32]uint8{
	syscall.S_IFREG: erofs.TypeRegular, syscall.S_IFDIR: erofs.TypeDir, syscall.S_IFCHR: erofs.TypeChar,
	syscall.S_IFBLK: erofs.TypeBlock, syscall.S_IFIFO: erofs.TypeFIFO, syscall.S_IFSOCK: erofs.TypeSocket,
	syscall.S_IFLNK: erofs.TypeSymlink,
}

// writeInodes writes all inodes and the data of directories and symlinks, in
// the order of their places.
func (v *v6Image) writeInodes(w *padder) {
	slices.SortFunc(v.inodes, func(a, b *inode) int { return cmp.Compare(a.off, b.off) })
	var blocks []*inode // those with data blocks
	for _, n := range v.inodes {
		if n.own != nil && n.own.data != 0 {
			blocks = append(blocks, n)
		}
	}
	slices.SortFunc(blocks, func(a, b *inode) int { return cmp.Compare(a.own.data, b.own.data) })
	for _, n := range v.inodes {
		for len(blocks) > 0 && blocks[0].own.data < uint64(n.off) {
			v.writeBlocks(w, blocks[0])
			blocks = blocks[1:]
		}
		v.writeInode(w, n)
	}
	for _, n := range blocks {
		v.writeBlocks(w, n)
	}
}

// writeInode writes the inode with its attributes and what stands behind it:
// the tail of its data or the chunk indexes.
func (v *v6Image) writeInode(w *padder, n *inode) {
	w.pad(v.meta + uint64(n.off))
	v.buf = append(v.buf[:0], make([]byte, n.head())...)
	v.putInode(v.buf, n)
	w.Write(v.buf)
	switch {
	case n.isRegular():
		w.pad(align64(w.off, 8))
		v.writeChunks(w, n)
	case v.inline(n):
		data := v.content(n)
		w.Write(data[uint64(len(data))/v.block*v.block:])
	}
}

// writeBlocks writes the data of a directory or symlink that does not stand
// behind its inode.
func (v *v6Image) writeBlocks(w *padder, n *inode) {
	data := v.content(n)
	if v.inline(n) {
		data = data[:uint64(len(data))/v.block*v.block]
	}
	w.pad(v.meta + n.own.data)
	w.Write(data)
}

// content returns the data of a directory or symlink.
func (v *v6Image) content(n *inode) []byte {
	if n.isDir() {
		return v.dirBytes(n)
	}
	return []byte(n.target())
}

// putInode puts the inode body and its attributes into p.
func (v *v6Image) putInode(p []byte, n *inode) {
	le := binary.LittleEndian
	layout, start := erofs.FlatPlain, uint32(0)
	switch {
	case n.isRegular():
		layout = erofs.ChunkBased
		start = erofs.ChunkIndexes | uint32(bits.TrailingZeros64(uint64(v.chunkSize)/v.block))
	case n.isDevice():
		start = n.rdev
	case n.isDir() || n.isSymlink():
		if v.inline(n) {
			layout = erofs.FlatInline
		}
		if n.own.data != 0 {
			start = uint32((v.meta + n.own.data) / v.block)
		}
	}
	le.PutUint16(p, 1|uint16(layout)<<1)
	if n.xattrs != nil {
		le.PutUint16(p[2:], uint16(n.xattrs.count()))
	}
	le.PutUint16(p[4:], uint16(n.mode))
	le.PutUint64(p[8:], uint64(n.size))
	le.PutUint32(p[16:], start)
	le.PutUint32(p[20:], n.ino)
	if !v.repeatable {
		le.PutUint32(p[24:], n.uid)
		le.PutUint32(p[28:], n.gid)
	}
	if !v.repeatable || n != v.tree.root {
		le.PutUint64(p[32:], uint64(n.mtime))
		le.PutUint32(p[40:], n.mtimeNsec)
	}
	le.PutUint32(p[44:], n.links)
	if n.xattrs == nil {
		return
	}
	at := p[v6InodeSize+erofs.XattrHeaderSize:]
	for _, x := range n.xattrs.list {
		index, rest, _ := erofs.SplitXattr(x.name)
		at[0], at[1] = uint8(len(rest)), index
		le.PutUint16(at[2:], uint16(len(x.value)))
		used := erofs.XattrEntrySize
		used += copy(at[used:], rest)
		used += copy(at[used:], x.value)
		at = at[align32(uint32(used), 4):]
	}
}

// writeChunks writes the chunk indexes of a regular file.
func (v *v6Image) writeChunks(w *padder, n *inode) {
	le := binary.LittleEndian
	for _, at := range n.chunks() {
		var e [8]byte
		switch {
		case at == holeChunk:
			le.PutUint32(e[4:], erofs.NullAddr)
		case v.plain:
			le.PutUint32(e[4:], uint32(v.end/v.block+v.flat[at]-1))
		default:
			c := v.store.chunks.at(at)
			le.PutUint16(e[:], uint16(c.index))
			e[2], e[3] = uint8(v.store.of(c).table+1), uint8(c.index>>16)
			le.PutUint32(e[4:], uint32(c.uncompOff/v.block))
		}
		w.Write(e[:])
	}
}

// dirBytes returns the blocks of a directory.
func (v *v6Image) dirBytes(dir *inode) []byte {
	type name struct {
		name string
		node *inode
	}
	out := make([]byte, 0, dir.size)
	var names []name
	used := 0
	flush := func(last bool) {
		nameoff := erofs.DirentSize * len(names)
		for _, e := range names {
			out = binary.LittleEndian.AppendUint64(out, uint64(v.nid(e.node)))
			out = binary.LittleEndian.AppendUint16(out, uint16(nameoff))
			out = append(out, direntTypes[e.node.kind()], 0)
			nameoff += len(e.name)
		}
		for _, e := range names {
			out = append(out, e.name...)
		}
		if !last {
			out = append(out, make([]byte, int(v.block)-used)...)
		}
		names, used = names[:0], 0
	}
	dirEntries(dir, func(s string, n *inode) {
		if need := erofs.DirentSize + len(s); used+need > int(v.block) {
			flush(false)
			used = need
		} else {
			used += need
		}
		names = append(names, name{s, n})
	})
	flush(true)
	return out
}
