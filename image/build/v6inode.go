package build

import (
	"encoding/binary"
	"math/bits"
	"syscall"

	"github.com/sluicefs/sluice/image/erofs"
)

// direntTypes are the file types in directory entries, by type bits of mode.
var direntTypes = map[uint32]uint8{
	syscall.S_IFREG: erofs.TypeRegular, syscall.S_IFDIR: erofs.TypeDir, syscall.S_IFCHR: erofs.TypeChar,
	syscall.S_IFBLK: erofs.TypeBlock, syscall.S_IFIFO: erofs.TypeFIFO, syscall.S_IFSOCK: erofs.TypeSocket,
	syscall.S_IFLNK: erofs.TypeSymlink,
}

// writeInodes writes all inodes and the data of directories and symlinks to
// out, the bootstrap.
func (v *v6Image) writeInodes(out []byte) error {
	var dirs func(dir, parent *inode)
	dirs = func(dir, parent *inode) {
		v.writeInode(out, dir)
		v.writeData(out, dir, v.dirBytes(dir, parent))
		for _, e := range dir.children {
			if e.node.isDir() {
				dirs(e.node, dir)
			}
		}
	}
	dirs(v.tree.root, v.tree.root)
	for _, n := range v.inodes {
		if n.isDir() {
			continue
		}
		v.writeInode(out, n)
		switch {
		case n.isSymlink():
			v.writeData(out, n, []byte(n.target))
		case n.isRegular():
			v.writeChunks(out, n)
		}
	}
	return nil
}

// writeInode writes the inode body and its attributes.
func (v *v6Image) writeInode(out []byte, n *inode) {
	le := binary.LittleEndian
	p := out[v.meta+n.off:]
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
		if n.data != 0 {
			start = uint32((v.meta + n.data) / v.block)
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

// writeData writes the data of a directory or symlink where placeOne put it.
func (v *v6Image) writeData(out []byte, n *inode, data []byte) {
	full := uint64(len(data))
	if v.inline(n) {
		full = full / v.block * v.block
		copy(out[v.meta+n.off+n.head():], data[full:])
	}
	if full > 0 {
		copy(out[v.meta+n.data:], data[:full])
	}
}

// writeChunks writes the chunk indexes of a regular file.
func (v *v6Image) writeChunks(out []byte, n *inode) {
	le := binary.LittleEndian
	p := out[align64(v.meta+n.off+n.head(), 8):]
	for i, at := range n.chunks {
		e := p[8*i:]
		if at == holeChunk {
			le.PutUint32(e[4:], erofs.NullAddr)
			continue
		}
		c := v.chunks.at(at)
		if v.plain {
			le.PutUint32(e[4:], uint32((v.end+c.flat)/v.block))
			continue
		}
		le.PutUint16(e, uint16(c.index))
		e[2], e[3] = uint8(c.blob.table+1), uint8(c.index>>16)
		le.PutUint32(e[4:], uint32(c.uncompOff/v.block))
	}
}

// dirBytes returns the blocks of a directory.
func (v *v6Image) dirBytes(dir, parent *inode) []byte {
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
	dirEntries(dir, parent, func(s string, n *inode) {
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
