package rafs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime/debug"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

const formatV6 = "rafs v6"

// maxBlobs is what the 8-bit blob number of a chunk index can name.
const maxBlobs = 255

// V6 is an open image of version 6.
type V6 struct {
	*erofs.Image
	ext        ExtSuper
	digester   storage.Algorithm
	compressor storage.Compressor
	infos      []BlobInfo
	blobs      []*storage.Blob
	chunks     chunkTable
	metas      []*Meta // of the blobs that have been given one, else nil
}

var _ image.Tree = (*V6)(nil)

// newV6 opens the bootstrap in m; id is what a blob is called that holds its
// own bootstrap. The image owns m if there is no error.
func newV6(m *mmap.Map, id string) (t *V6, err error) {
	base, err := erofs.New(m, &erofs.Options{Format: formatV6})
	if err != nil {
		return nil, err
	}
	t = &V6{Image: base}
	defer base.Guard(&err, debug.SetPanicOnFault(true))
	if err := t.readSuper(); err != nil {
		return nil, err
	}
	if err := t.readBlobs(id); err != nil {
		return nil, err
	}
	if err := t.checkTables(); err != nil {
		return nil, err
	}
	t.chunks.init(t.Data()[t.ext.ChunkTableOffset:][:t.ext.ChunkTableSize], t.blobs)
	t.setNeighbours()
	return t, nil
}

func (t *V6) readSuper() error {
	s := t.Super()
	if s.Compat&erofs.CompatRAFS == 0 {
		return t.Errorf(erofs.SuperOffset+8, "superblock: the mark of RAFS is missing")
	}
	var ok bool
	if len(t.Data()) < ExtSuperOffset+ExtSuperSize {
		return t.Errorf(ExtSuperOffset, "extended superblock is cut short")
	}
	t.ext, _ = ParseExtSuper(t.Data()[ExtSuperOffset:])
	x := &t.ext
	if x.Flags&^knownFlags != 0 {
		return t.Errorf(ExtSuperOffset, "extended superblock: flags %#x are not known", uint64(x.Flags&^knownFlags))
	}
	if t.compressor, ok = x.Flags.Compressor(); !ok {
		return t.Errorf(ExtSuperOffset, "extended superblock: flags %#x name not one compressor", uint64(x.Flags))
	}
	if t.digester, ok = x.Flags.Digester(); !ok {
		return t.Errorf(ExtSuperOffset, "extended superblock: flags %#x name not one digester", uint64(x.Flags))
	}
	if want := t.blockBits(); s.BlockBits != want {
		return t.Errorf(erofs.SuperOffset+12, "superblock: block size 2^%d, flags demand 2^%d", s.BlockBits, want)
	}
	if x.ChunkSize < MinChunkSize || x.ChunkSize > MaxChunkSize || bits.OnesCount32(x.ChunkSize) != 1 {
		return t.Errorf(ExtSuperOffset+20, "extended superblock: chunk size %d is not a power of two from %d to %d", x.ChunkSize, MinChunkSize, MaxChunkSize)
	}
	return nil
}

func (t *V6) tarfs() bool { return t.ext.Flags&TarfsMode != 0 }

func (t *V6) blockBits() uint8 {
	if t.tarfs() {
		return 9
	}
	return 12
}

// region is a table of the bootstrap.
type region struct {
	what      string
	field     int64 // where its offset stands
	off, size uint64
	record    uint64
}

// checkTables checks that the tables lie in the file, hold whole records and
// do not overlap.
func (t *V6) checkTables() error {
	x := &t.ext
	all := [...]region{
		{"blob table", ExtSuperOffset + 8, x.BlobTableOffset, uint64(x.BlobTableSize), BlobInfoSize},
		{"chunk table", ExtSuperOffset + 24, x.ChunkTableOffset, x.ChunkTableSize, ChunkInfoSize},
		{"prefetch table", ExtSuperOffset + 40, x.PrefetchOffset, uint64(x.PrefetchSize), 4},
	}
	for i, r := range all {
		if err := t.checkRegion(r); err != nil {
			return err
		}
		for _, o := range all[:i] {
			if r.size > 0 && o.size > 0 && r.off < o.off+o.size && o.off < r.off+r.size {
				return t.Errorf(r.field, "extended superblock: %s overlaps the %s", r.what, o.what)
			}
		}
	}
	return nil
}

func (t *V6) checkRegion(r region) error {
	size := uint64(len(t.Data()))
	switch {
	case r.off > size || r.size > size-r.off:
		return t.Errorf(r.field, "extended superblock: %s of %d bytes at %d ends behind the image", r.what, r.size, r.off)
	case r.size%r.record != 0:
		return t.Errorf(r.field, "extended superblock: %s of %d bytes has not whole records of %d", r.what, r.size, r.record)
	case r.size > 0 && r.off < ExtSuperOffset+ExtSuperSize:
		return t.Errorf(r.field, "extended superblock: %s at %d lies in the superblock", r.what, r.off)
	}
	return nil
}

func (t *V6) readBlobs(id string) error {
	x := &t.ext
	if err := t.checkRegion(region{"blob table", ExtSuperOffset + 8, x.BlobTableOffset, uint64(x.BlobTableSize), BlobInfoSize}); err != nil {
		return err
	}
	n := int(x.BlobTableSize / BlobInfoSize)
	if n > maxBlobs {
		return t.Errorf(ExtSuperOffset+16, "extended superblock: %d blobs are more than %d", n, maxBlobs)
	}
	if n != len(t.Devices()) {
		return t.Errorf(ExtSuperOffset+16, "extended superblock: %d blobs but %d devices", n, len(t.Devices()))
	}
	t.infos = make([]BlobInfo, n)
	t.blobs = make([]*storage.Blob, n)
	t.metas = make([]*Meta, n)
	seen := make(map[string]bool, n)
	for i := range t.infos {
		off := x.BlobTableOffset + uint64(i)*BlobInfoSize
		t.infos[i], _ = ParseBlobInfo(t.Data()[off:])
		if err := t.checkBlob(i, int64(off)); err != nil {
			return err
		}
		t.blobs[i] = t.infos[i].blob(i, id)
		if seen[t.blobs[i].ID] {
			return t.Errorf(int64(off), "blob %d: id %q stands twice", i, t.blobs[i].ID)
		}
		seen[t.blobs[i].ID] = true
	}
	return nil
}

// checkBlob checks entry i of the blob table, which is at off.
func (t *V6) checkBlob(i int, off int64) error {
	b := &t.infos[i]
	tarfs := b.Features&BlobTarfs != 0
	switch f := b.Features; {
	case b.Index != uint32(i):
		return t.Errorf(off+64, "blob %d: says that it is blob %d", i, b.Index)
	case b.ChunkSize != t.ext.ChunkSize:
		return t.Errorf(off+68, "blob %d: chunk size %d, the image has %d", i, b.ChunkSize, t.ext.ChunkSize)
	case b.ChunkCount > MaxChunks:
		return t.Errorf(off+72, "blob %d: %d chunks are more than %d", i, b.ChunkCount, MaxChunks)
	case b.Compressor > uint32(storage.Zstd):
		return t.Errorf(off+76, "blob %d: compressor %d is not known", i, b.Compressor)
	case b.Digester > uint32(storage.SHA256):
		return t.Errorf(off+80, "blob %d: digester %d is not known", i, b.Digester)
	case f&0xffff&^knownBlobFeatures != 0:
		return t.Errorf(off+84, "blob %d: features %#x are not known", i, uint32(f&0xffff&^knownBlobFeatures))
	case f&(BlobZran|BlobBatch|BlobEncrypted) != 0 && f&BlobChunkInfoV2 == 0:
		return t.Errorf(off+84, "blob %d: features %#x need chunk information of version 2", i, uint32(f))
	case tarfs != t.tarfs():
		return t.Errorf(off+84, "blob %d: features %#x and the image do not agree on tarfs", i, uint32(f))
	case !tarfs && f&BlobAligned == 0:
		return t.Errorf(off+84, "blob %d: features %#x lack aligned chunks", i, uint32(f))
	case b.CompressedSize > 1<<40:
		return t.Errorf(off+88, "blob %d: size %d is too large", i, b.CompressedSize)
	case b.UncompressedSize > 1<<44:
		return t.Errorf(off+96, "blob %d: uncompressed size %d is too large", i, b.UncompressedSize)
	case b.Cipher > 1:
		return t.Errorf(off+216, "blob %d: cipher %d is not supported", i, b.Cipher)
	case b.Features&BlobEncrypted != 0 && b.Cipher == 0:
		return t.Errorf(off+216, "blob %d: is encrypted with no cipher", i)
	}
	if id := cString(b.ID[:]); id == "" || id[0] == '.' || !plainName(id) {
		return t.Errorf(off, "blob %d: id %q is not a name", i, id)
	}
	return nil
}

// blob returns what the store has to know of blob i; id replaces the name of
// a blob that holds its own bootstrap, which could not know it.
func (b *BlobInfo) blob(i int, id string) *storage.Blob {
	s := &storage.Blob{
		ID: cString(b.ID[:]), Index: i, Size: int64(b.CompressedSize), DataSize: b.dataSize(),
		UncompressedSize: int64(b.UncompressedSize), ChunkSize: b.ChunkSize, ChunkCount: b.ChunkCount,
		Compressor: storage.Compressor(b.Compressor), Digester: storage.Algorithm(b.Digester),
	}
	if b.Features&BlobInlinedMeta != 0 {
		s.Size = 0 // what stands there does not count the bootstrap
		if id != "" {
			s.ID = id
		}
	}
	if b.Features&BlobTarfs != 0 {
		s.ChunkCount = uint32((b.UncompressedSize + uint64(b.ChunkSize) - 1) / uint64(b.ChunkSize))
	}
	if b.Features&BlobEncrypted != 0 {
		c := &storage.Cipher{Key: b.MetaDigest}
		binary.LittleEndian.PutUint64(c.IV[:], b.MetaSize)
		copy(c.IV[8:], b.CipherIV[:])
		s.Cipher = c
	}
	return s
}

// dataSize returns the bytes of the blob from 0 on that hold chunks.
func (b *BlobInfo) dataSize() int64 {
	tail := uint64(0)
	if b.Features&BlobTarHeader != 0 {
		tail = tarBlockSize
	}
	size := b.CompressedSize
	switch {
	case b.Features&(BlobSeparate|BlobTarfs) != 0:
	case b.Features&BlobCapTarTOC != 0 && b.CIOffset != 0:
		size = b.CIOffset - min(tail, b.CIOffset)
	case b.Features&BlobCapTarTOC != 0:
		size -= min(tail, size)
	}
	return int64(min(size, 1<<40))
}

// Blobs returns the blobs in the order of the table.
func (t *V6) Blobs() []*storage.Blob { return t.blobs }

// BlobInfos returns the entries of the blob table, not to be changed.
func (t *V6) BlobInfos() []BlobInfo { return t.infos }

// Ext returns the extended superblock.
func (t *V6) Ext() ExtSuper { return t.ext }

// Info says what the image is.
func (t *V6) Info() image.Info {
	info := t.Image.Info()
	info.ChunkSize = t.ext.ChunkSize
	info.Flags = uint64(t.ext.Flags)
	info.Digester, info.Compressor = t.digester, t.compressor
	return info
}

// Prefetch returns the NIDs of the prefetch table up to the first 0. It
// allocates.
func (t *V6) Prefetch() (nids []uint64) {
	var err error
	defer t.Guard(&err, debug.SetPanicOnFault(true))
	table := t.Data()[t.ext.PrefetchOffset:][:t.ext.PrefetchSize]
	for ; len(table) >= 4; table = table[4:] {
		nid := binary.LittleEndian.Uint32(table)
		if nid == 0 {
			break
		}
		nids = append(nids, uint64(nid))
	}
	return nids
}

// Inline reports that the data of regular files is on blobs.
func (t *V6) Inline(p []byte, nid uint64, off int64) (int, bool, error) {
	return 0, false, nil
}

// Extents appends the extents of the regular file nid that cover
// [off, off+n). The size of chunks is that of the image: the one in the inode
// may be larger, which is for the kernel only.
func (t *V6) Extents(dst []storage.Extent, nid uint64, off, n int64) (ext []storage.Extent, err error) {
	defer t.Guard(&err, debug.SetPanicOnFault(true))
	ext = dst
	var node erofs.Node
	if err := t.Regular(nid, &node); err != nil {
		return dst, err
	}
	start, end, ok := erofs.Range(off, n, node.Size)
	if !ok {
		return dst, nil
	}
	if node.Layout != erofs.ChunkBased || node.Union&^uint32(erofs.ChunkBlockBits) != erofs.ChunkIndexes {
		return dst, t.Errorf(int64(node.Offset), "inode %d: a regular file that is not made of indexed chunks", nid)
	}
	shift := uint(bits.TrailingZeros32(t.ext.ChunkSize))
	last := (end - 1) >> shift
	table, err := t.ChunkTable(&node, 8, last+1)
	if err != nil {
		return dst, err
	}
	for start < end {
		i := start >> shift
		base := i << shift
		stop := min(end, base+uint64(t.ext.ChunkSize))
		ext, err = t.appendChunk(ext, table[i*8:], start, stop, base)
		if err != nil {
			return ext, fmt.Errorf("inode %d chunk %d: %w", nid, i, err)
		}
		start = stop
	}
	return ext, nil
}

// appendChunk appends the bytes [start, stop) of a file, which lie in the
// chunk with the 8-byte index at b that starts at base.
func (t *V6) appendChunk(dst []storage.Extent, b []byte, start, stop, base uint64) ([]storage.Extent, error) {
	le := binary.LittleEndian
	lo, hi, addr := le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:])
	if addr == erofs.NullAddr {
		return erofs.AppendHole(dst, int64(start), int64(stop-start)), nil
	}
	blob := int(hi&0xff) - 1
	if blob < 0 || blob >= len(t.blobs) {
		return dst, t.Errorf(-1, "chunk index names blob %d of %d", blob+1, len(t.blobs))
	}
	uncompressed := int64(addr) << t.Super().BlockBits
	if t.tarfs() {
		at := uncompressed + int64(start-base)
		if at+int64(stop-start) > t.blobs[blob].UncompressedSize {
			return dst, t.Errorf(-1, "chunk ends behind blob %d", blob)
		}
		return erofs.AppendRange(dst, t.blobs[blob], int64(start), at, int64(stop-start)), nil
	}
	dst = append(dst, storage.Extent{FileOffset: int64(start), Length: int64(stop - start), ChunkOffset: uint32(start - base)})
	c := &dst[len(dst)-1].Chunk
	err := t.chunk(c, blob, uint32(lo)|uint32(hi>>8)<<16)
	switch {
	case err != nil:
	case c.UncompressedOffset != uncompressed:
		err = t.Errorf(-1, "chunk %d of blob %d is at %d, the index says %d", c.Index, blob, c.UncompressedOffset, uncompressed)
	case uint64(c.UncompressedSize) < stop-base:
		err = t.Errorf(-1, "chunk %d of blob %d has %d bytes, the file needs %d", c.Index, blob, c.UncompressedSize, stop-base)
	}
	if err != nil {
		return dst[:len(dst)-1], err
	}
	return dst, nil
}

// chunk fills in c with chunk i of a blob: from the blob's own information
// if it has been loaded and tells more, else from the chunk table.
func (t *V6) chunk(c *storage.Chunk, blob int, i uint32) error {
	record, ok := t.chunks.find(blob, i)
	if ok {
		if err := t.fromRecord(c, record, blob); err != nil {
			return err
		}
	}
	if m := t.metas[blob]; m != nil && (!ok || t.infos[blob].needMeta()) {
		return m.fill(c, t.blobs[blob], i, t.Errorf)
	}
	switch {
	case !ok:
		return t.Errorf(-1, "chunk %d of blob %d has no record", i, blob)
	case t.infos[blob].needMeta():
		return t.Errorf(-1, "chunk %d of blob %d can be found through the blob's own chunk information only, which has not been loaded", i, blob)
	}
	return nil
}

// needMeta reports that the records of the chunk table do not say where the
// chunks are stored.
func (b *BlobInfo) needMeta() bool { return b.Features&(BlobBatch|BlobZran) != 0 }

// fromRecord fills in c from an 80-byte record.
func (t *V6) fromRecord(c *storage.Chunk, record []byte, blob int) error {
	info, _ := ParseChunkInfo(record)
	b := t.blobs[blob]
	if err := info.chunk(c, b); err != nil {
		return t.Errorf(-1, "chunk table: chunk %d of blob %d: %v", info.Index, blob, err)
	}
	if info.Index >= b.ChunkCount {
		return t.Errorf(-1, "chunk table: chunk %d of blob %d, which has %d", info.Index, blob, b.ChunkCount)
	}
	if t.infos[blob].needMeta() {
		return nil // the rest comes from there
	}
	return checkStored(c, t.Errorf)
}

// AttachMeta gives the tree the chunk information of a blob, which the tree
// then owns. It must not run beside look-ups.
func (t *V6) AttachMeta(blob int, m *Meta) error {
	if blob < 0 || blob >= len(t.blobs) {
		return t.Errorf(-1, "blob %d of %d", blob, len(t.blobs))
	}
	info := &t.infos[blob]
	if m.Header.Entries != info.ChunkCount {
		return t.Errorf(-1, "blob.meta of blob %d has %d chunks, the image says %d", blob, m.Header.Entries, info.ChunkCount)
	}
	const mask = BlobChunkInfoV2 | BlobZran | BlobBatch
	if m.Header.Features&mask != info.Features&mask {
		return t.Errorf(-1, "blob.meta of blob %d has features %#x, the image says %#x", blob, uint32(m.Header.Features), uint32(info.Features))
	}
	t.metas[blob] = m
	return nil
}

// Close gives the mapping back, and what the chunk information lies in.
func (t *V6) Close() error {
	err := t.chunks.close()
	for _, m := range t.metas {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
	}
	return errors.Join(err, t.Image.Close())
}
