package build

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// Places and sizes in a v6 bootstrap.
const (
	v6Block       = 4096
	v6DeviceTable = 1408 // behind the extended superblock, a multiple of the slot size
	v6MaxDevices  = 254
	v6MaxSize     = 1 << 31
	v6MappedAlign = 512 << 10 // of blobs in the flattened view
	v6InodeSize   = erofs.ExtendedInodeSize
)

// model is a complete image: what the encoders write.
type model struct {
	version    int // of RAFS
	tree       *tree
	store      *store
	blobs      []*blob // the blob table
	chunkSize  uint32
	compressor storage.Compressor
	digester   storage.Algorithm
	flags      rafs.SuperFlags // beside those that follow from the other fields
	repeatable bool
	tarfs      bool     // 512-byte blocks
	variable   bool     // v5: the chunks of a file have different sizes
	plain      bool     // EROFS in one file: no RAFS tables, no devices; the data follows
	flat       []uint64 // plain: places of the chunks in that data, in blocks from 1; 0: no file has it
	flatBlocks uint64   // plain: blocks of that data
	prefetch   []*inode // files and directories, in order
}

// superFlags are the flags of the image's superblock.
func (m *model) superFlags(inodes []*inode) rafs.SuperFlags {
	f := m.flags | rafs.EncryptionNone
	switch m.compressor {
	case storage.LZ4Block:
		f |= rafs.CompressionLZ4
	case storage.Gzip:
		f |= rafs.CompressionGzip
	case storage.Zstd:
		f |= rafs.CompressionZstd
	default:
		f |= rafs.CompressionNone
	}
	if m.digester == storage.SHA256 {
		f |= rafs.HashSHA256
	} else {
		f |= rafs.HashBLAKE3
	}
	if !m.repeatable {
		f |= rafs.ExplicitOwner
	}
	if m.tarfs {
		f |= rafs.TarfsMode
	}
	if m.variable {
		f |= rafs.VariableChunks
	}
	for _, n := range inodes {
		if n.xattrs != nil {
			return f | rafs.HasXattr
		}
	}
	return f
}

// v6Image is the layout of a v6 bootstrap.
type v6Image struct {
	*model
	block  uint64 // bytes
	inodes []*inode
	space  space
	names  uint64 // the root's among them
	meta   uint64 // offset that nids count from
	end    uint64 // size of the bootstrap

	blobTable, chunkTable uint64 // offsets
	buf                   []byte // of writeInode
}

// encodeV6 lays out the bootstrap of m.
func encodeV6(m *model) (*v6Image, error) {
	if len(m.blobs) > v6MaxDevices {
		return nil, fmt.Errorf("%d blobs are more than the %d that RAFS v6 has room for", len(m.blobs), v6MaxDevices)
	}
	if m.variable {
		return nil, errVariable
	}
	v := &v6Image{model: m, block: v6Block}
	if m.tarfs {
		v.block = 512
	}
	v.inodes, v.names = m.tree.finish()
	for _, n := range v.inodes {
		n.off = 0
	}

	// The first block stays empty, so that no inode has nid 0.
	v.space = space{block: v.block, cursor: v6Block}
	v.place(m.tree.root, m.tree.root)
	v.blobTable = align64(v6DeviceTable+uint64(v.devices())*erofs.DeviceSlotSize, v6Block)
	v.meta = align64(v.blobTable+v.blobTableSize()+v.prefetchSize(), v6Block)
	v.chunkTable = align64(v.meta+v.space.cursor, v6Block)
	v.end = align64(v.chunkTable+v.records()*rafs.ChunkInfoSize, v6Block)
	if v.end >= v6MaxSize {
		return nil, fmt.Errorf("the bootstrap would have %d bytes, the limit is %d", v.end, v6MaxSize-1)
	}
	return v, nil
}

func (v *v6Image) bytes() int64 { return int64(v.end) }

// devices is the length of the device table.
func (v *v6Image) devices() int {
	if v.plain {
		return 0
	}
	return len(v.blobs)
}

func (v *v6Image) blobTableSize() uint64 { return uint64(v.devices()) * rafs.BlobInfoSize }
func (v *v6Image) prefetchSize() uint64  { return uint64(len(v.prefetch)) * 4 }

// writeTo writes the bootstrap: what stands before the inodes, the inodes and
// the chunk table.
func (v *v6Image) writeTo(to io.Writer) error {
	w := &padder{w: bufio.NewWriterSize(to, 1<<16)}
	w.Write(v.head())
	v.writeInodes(w)
	w.pad(v.chunkTable)
	v.writeRecords(w)
	w.pad(v.end)
	return w.w.Flush()
}

// padder counts what is written. Errors show at the end.
type padder struct {
	w   *bufio.Writer
	off uint64
}

func (p *padder) Write(b []byte) (int, error) {
	p.off += uint64(len(b))
	return p.w.Write(b)
}

var zeros [v6Block]byte

// pad writes zeros up to the offset to, which is not behind.
func (p *padder) pad(to uint64) {
	for p.off < to {
		p.Write(zeros[:min(to-p.off, v6Block)])
	}
}

// head returns what stands before the inodes.
func (v *v6Image) head() []byte {
	out := make([]byte, v.meta)
	super := erofs.Super{
		BlockBits: uint8(bits.TrailingZeros64(v.block)), RootNID: uint16(v.nid(v.tree.root)),
		Inodes: v.names, MetaBlock: uint32(v.meta / v.block), Incompat: erofs.IncompatChunked,
	}
	if v.plain {
		super.Blocks = uint32((v.end + v.flatSize()) / v.block)
	} else {
		super.Compat, super.Incompat = erofs.CompatRAFS, erofs.IncompatChunked|erofs.IncompatDevices
		super.Devices, super.DeviceSlot = uint16(v.devices()), v6DeviceTable/erofs.DeviceSlotSize
		super.Blocks = uint32(v.mapBlobs(out[v6DeviceTable:v6DeviceTable]))
		ext := rafs.ExtSuper{
			Flags: v.superFlags(v.inodes), BlobTableOffset: v.blobTable, BlobTableSize: uint32(v.blobTableSize()),
			ChunkSize: v.chunkSize, ChunkTableOffset: v.chunkTable, ChunkTableSize: v.records() * rafs.ChunkInfoSize,
			PrefetchSize: uint32(v.prefetchSize()),
		}
		if len(v.prefetch) > 0 {
			ext.PrefetchOffset = v.blobTable + v.blobTableSize()
		}
		ext.Append(out[rafs.ExtSuperOffset:rafs.ExtSuperOffset])
		v.appendBlobs(out[v.blobTable:v.blobTable])
	}
	super.Append(out[erofs.SuperOffset:erofs.SuperOffset])
	return out
}

// appendBlobs appends the blob table with the prefetch table behind it.
func (v *v6Image) appendBlobs(blobs []byte) {
	for i, b := range v.blobs {
		b.info.Index = uint32(i)
		b.info.ChunkSize = v.chunkSize
		clear(b.info.ID[:])
		copy(b.info.ID[:], b.id)
		blobs = b.info.Append(blobs)
	}
	for _, n := range v.prefetch {
		blobs = binary.LittleEndian.AppendUint32(blobs, v.nid(n))
	}
}

// writeRecords writes the chunk table.
func (v *v6Image) writeRecords(w *padder) {
	if v.records() == 0 {
		return
	}
	var buf [rafs.ChunkInfoSize]byte
	for i, b := range v.blobs {
		for _, at := range b.chunkList {
			r := v.store.chunks.at(at).record(uint32(i))
			w.Write(r.Append(buf[:0]))
		}
	}
}

// records is the length of the chunk table: all chunks of the blobs, by blob
// and index, so that a reader finds a record by its position. Tar files have
// no digests and plain EROFS no table.
func (v *v6Image) records() (n uint64) {
	if v.tarfs || v.plain {
		return 0
	}
	for _, b := range v.blobs {
		n += uint64(len(b.chunkList))
	}
	return n
}

// record returns the 80-byte form of c in the blob with that position.
func (c *chunk) record(blob uint32) rafs.ChunkInfo {
	return rafs.ChunkInfo{
		Digest: c.digest, Blob: blob, Flags: c.flags, CompressedSize: c.compSize, UncompressedSize: c.uncompSize,
		CompressedOffset: c.compOff, UncompressedOffset: c.uncompOff, FileOffset: c.fileOff, Index: c.index, CRC: c.crc,
	}
}

// mapBlobs writes the device slots and gives every blob its place in the
// flattened view, behind the bootstrap. It returns the blocks of all blobs.
func (v *v6Image) mapBlobs(dst []byte) (blocks uint64) {
	end := v.end
	for _, b := range v.blobs {
		end = align64(end, v6MappedAlign)
		n := (b.info.UncompressedSize + v.block - 1) / v.block
		b.mapped = uint32(end / v.block)
		d := erofs.Device{Blocks: uint32(n), Mapped: b.mapped}
		copy(d.Tag[:], b.id)
		dst = d.Append(dst)
		end += n * v.block
		blocks += n
	}
	return blocks
}

func (v *v6Image) nid(n *inode) uint32 { return n.off / erofs.SlotSize }

// head is the size of the inode and its attributes.
func (n *inode) head() uint64 {
	if n.xattrs == nil {
		return v6InodeSize
	}
	return v6InodeSize + uint64(n.xattrs.v6Size)
}

// place finds the room for dir, then for the files in it, then for its
// directories.
func (v *v6Image) place(dir, parent *inode) {
	dir.extra().parent = parent
	if dir == parent {
		v.placeOne(dir, v.dirSize(dir))
	}
	for _, e := range dir.children() {
		n := e.node
		if n.isDir() || n.off != 0 {
			continue
		}
		switch {
		case n.isRegular():
			n.off = uint32(v.space.take(align64(n.head(), 8) + 8*uint64(len(n.chunks()))))
		case n.isSymlink():
			v.placeOne(n, uint64(len(n.target())))
		default:
			n.off = uint32(v.space.take(n.head()))
		}
	}
	for _, e := range dir.children() {
		if e.node.isDir() {
			e.node.extra().parent = dir
			v.placeOne(e.node, v.dirSize(e.node))
			v.place(e.node, dir)
		}
	}
}

// placeOne finds the room for an inode whose size bytes of data lie in the
// metadata: the part that does not fill a block stands behind the inode if
// both fit a block.
func (v *v6Image) placeOne(n *inode, size uint64) {
	n.size = int64(size)
	full, tail := size/v.block*v.block, size%v.block
	if n.head()+tail > v.block {
		full, tail = align64(size, v.block), 0
	}
	if tail != 0 || size == 0 {
		n.off = uint32(v.space.takeWhole(n.head() + tail))
	} else {
		n.off = uint32(v.space.take(n.head()))
	}
	n.extra().data = 0
	if full > 0 {
		n.own.data = v.space.blocks(full)
	}
}

// inline reports whether placeOne put a tail behind n.
func (v *v6Image) inline(n *inode) bool {
	tail := uint64(n.size) % v.block
	return tail != 0 && n.head()+tail <= v.block
}

// dirEntries calls f for the entries of dir in their order on disk, "." and
// ".." among them.
func dirEntries(dir *inode, f func(name string, n *inode)) {
	dots := [...]entry{{".", dir}, {"..", dir.own.parent}}
	i := 0
	for _, e := range dir.children() {
		for i < len(dots) && dots[i].name < e.name {
			f(dots[i].name, dots[i].node)
			i++
		}
		f(e.name, e.node)
	}
	for ; i < len(dots); i++ {
		f(dots[i].name, dots[i].node)
	}
}

// dirSize is the bytes that the entries of dir take.
func (v *v6Image) dirSize(dir *inode) uint64 {
	size := uint64(0)
	dirEntries(dir, func(name string, _ *inode) {
		need := uint64(erofs.DirentSize + len(name))
		if size%v.block+need > v.block {
			size = align64(size, v.block)
		}
		size += need
	})
	return size
}
