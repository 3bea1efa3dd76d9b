package build

import (
	"encoding/binary"
	"fmt"
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
	chunks     *chunkVec
	blobs      []*blob // the blob table
	chunkSize  uint32
	compressor storage.Compressor
	digester   storage.Algorithm
	flags      rafs.SuperFlags // beside those that follow from the other fields
	repeatable bool
	tarfs      bool     // 512-byte blocks
	variable   bool     // v5: the chunks of a file have different sizes
	plain      bool     // EROFS in one file: no RAFS tables, no devices; the data follows
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
	meta   uint64 // offset that nids count from
	end    uint64 // size of the bootstrap
}

// encodeV6 returns the bootstrap of m.
func encodeV6(m *model) ([]byte, error) {
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
	inodes, names := m.tree.finish()
	v.inodes = inodes
	for _, n := range inodes {
		n.off, n.data = 0, 0
	}

	// The first block stays empty, so that no inode has nid 0.
	v.space = space{block: v.block, cursor: v6Block}
	if err := v.place(m.tree.root, true); err != nil {
		return nil, err
	}
	devices := len(m.blobs)
	if m.plain {
		devices = 0
	}
	blobTable := align64(v6DeviceTable+uint64(devices)*erofs.DeviceSlotSize, v6Block)
	blobTableSize := uint64(devices) * rafs.BlobInfoSize
	prefetchSize := uint64(len(m.prefetch)) * 4
	v.meta = align64(blobTable+blobTableSize+prefetchSize, v6Block)
	chunkTable := align64(v.meta+v.space.cursor, v6Block)
	chunkTableSize := v.records() * rafs.ChunkInfoSize
	size := align64(chunkTable+chunkTableSize, v6Block)
	if size >= v6MaxSize {
		return nil, fmt.Errorf("the bootstrap would have %d bytes, the limit is %d", size, v6MaxSize-1)
	}
	v.end = size
	out := make([]byte, size)
	if err := v.writeInodes(out); err != nil {
		return nil, err
	}
	super := erofs.Super{
		BlockBits: uint8(bits.TrailingZeros64(v.block)), RootNID: uint16(v.nid(m.tree.root)),
		Inodes: names, MetaBlock: uint32(v.meta / v.block), Incompat: erofs.IncompatChunked,
	}
	if m.plain {
		super.Blocks = uint32((size + m.flatSize()) / v.block)
	} else {
		super.Compat, super.Incompat = erofs.CompatRAFS, erofs.IncompatChunked|erofs.IncompatDevices
		super.Devices, super.DeviceSlot = uint16(devices), v6DeviceTable/erofs.DeviceSlotSize
		super.Blocks = uint32(v.mapBlobs(out[v6DeviceTable:v6DeviceTable], size))
		ext := rafs.ExtSuper{
			Flags: m.superFlags(inodes), BlobTableOffset: blobTable, BlobTableSize: uint32(blobTableSize),
			ChunkSize: m.chunkSize, ChunkTableOffset: chunkTable, ChunkTableSize: chunkTableSize,
			PrefetchSize: uint32(prefetchSize),
		}
		if prefetchSize > 0 {
			ext.PrefetchOffset = blobTable + blobTableSize
		}
		ext.Append(out[rafs.ExtSuperOffset:rafs.ExtSuperOffset])
		v.writeTables(out[blobTable:blobTable], out[chunkTable:chunkTable])
	}
	super.Append(out[erofs.SuperOffset:erofs.SuperOffset])
	return out, nil
}

// writeTables writes the blob table with the prefetch table behind it, and
// the chunk table.
func (v *v6Image) writeTables(blobs, chunks []byte) {
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
	if v.records() == 0 {
		return
	}
	for i, b := range v.blobs {
		for _, at := range b.chunkList {
			r := v.chunks.at(at).record(uint32(i))
			chunks = r.Append(chunks)
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
// flattened view, behind a bootstrap of that size. It returns the blocks of
// all blobs.
func (v *v6Image) mapBlobs(dst []byte, size uint64) (blocks uint64) {
	end := size
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

func (v *v6Image) nid(n *inode) uint32 { return uint32(n.off / erofs.SlotSize) }

// head is the size of the inode and its attributes.
func (n *inode) head() uint64 {
	if n.xattrs == nil {
		return v6InodeSize
	}
	return v6InodeSize + uint64(n.xattrs.v6Size)
}

// place finds the room for dir, then for the files in it, then for its
// directories.
func (v *v6Image) place(dir *inode, root bool) error {
	if root {
		v.placeOne(dir, v.dirSize(dir, dir))
	}
	for _, e := range dir.children {
		n := e.node
		if n.isDir() || n.off != 0 {
			continue
		}
		switch {
		case n.isRegular():
			n.off = v.space.take(align64(n.head(), 8) + 8*uint64(len(n.chunks)))
		case n.isSymlink():
			v.placeOne(n, uint64(len(n.target)))
		default:
			n.off = v.space.take(n.head())
		}
	}
	for _, e := range dir.children {
		if e.node.isDir() {
			v.placeOne(e.node, v.dirSize(e.node, dir))
			if err := v.place(e.node, false); err != nil {
				return err
			}
		}
	}
	return nil
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
		n.off = v.space.takeWhole(n.head() + tail)
	} else {
		n.off = v.space.take(n.head())
	}
	n.data = 0
	if full > 0 {
		n.data = v.space.blocks(full)
	}
}

// inline reports whether placeOne put a tail behind n.
func (v *v6Image) inline(n *inode) bool {
	tail := uint64(n.size) % v.block
	return tail != 0 && n.head()+tail <= v.block
}

// dirEntries calls f for the entries of dir in their order on disk, "." and
// ".." among them.
func dirEntries(dir, parent *inode, f func(name string, n *inode)) {
	dots := [...]entry{{".", dir}, {"..", parent}}
	i := 0
	for _, e := range dir.children {
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
func (v *v6Image) dirSize(dir, parent *inode) uint64 {
	size := uint64(0)
	dirEntries(dir, parent, func(name string, _ *inode) {
		need := uint64(erofs.DirentSize + len(name))
		if size%v.block+need > v.block {
			size = align64(size, v.block)
		}
		size += need
	})
	return size
}
