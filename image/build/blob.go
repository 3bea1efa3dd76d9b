package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"slices"

	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// Sections of a blob, as its tar headers and its table of contents name them.
const (
	sectionData       = "image.blob"
	sectionMeta       = "blob.meta"
	sectionMetaHeader = "blob.meta.header"
	sectionDigests    = "blob.digest"
	sectionBootstrap  = "image.boot"
	sectionTOC        = "rafs.blob.toc"
)

// blobAlign is where chunks start in the uncompressed space.
const blobAlign = 4096

// inlinedID is the id that a bootstrap gives the blob in which it lies.
const inlinedID = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

// blobWriter writes one blob from its first byte to its last.
type blobWriter struct {
	opt    *Options
	blob   *blob
	chunks *chunkVec // of the store
	file   *outFile
	hash   hash.Hash // of all that was written

	uncomp uint64 // end of the uncompressed space
	table  pieces // entries of blob.meta
	toc    []byte
	coder  *coder // for batches and tables

	batch       []byte // bytes of the batch under way
	batchPieces []int  // its pieces in the slot
	contexts    int    // batches written
}

func newBlobWriter(b *builder) (*blobWriter, error) {
	opt := b.opt
	coder, err := opt.newCoder(opt.Compressor)
	if err != nil {
		return nil, err
	}
	w := &blobWriter{opt: opt, hash: sha256.New(), coder: coder}
	if w.file, err = b.out.newBlob(); err != nil {
		return nil, err
	}
	if w.file == nil {
		return nil, errors.New("there is data, but no blob or blob directory is named to write it to")
	}
	w.blob = &blob{ours: true, info: rafs.BlobInfo{
		ChunkSize: opt.ChunkSize, Compressor: uint32(opt.Compressor), Digester: uint32(opt.Digester),
		Features: rafs.BlobCapTarTOC,
	}}
	f := &w.blob.info.Features
	if opt.Version == 6 || opt.AlignedChunk {
		*f |= rafs.BlobAligned
	}
	if opt.BatchSize != 0 {
		*f |= rafs.BlobChunkInfoV2 | rafs.BlobBatch
	}
	if opt.InlineMeta {
		*f |= rafs.BlobInlinedMeta
	}
	if opt.InlineMeta || opt.TOC {
		*f |= rafs.BlobTarHeader
	}
	if opt.TOC {
		*f |= rafs.BlobTOC | rafs.BlobInlinedChunkDigest
	}
	b.store.addBlob(w.blob)
	w.chunks = &b.store.chunks
	return w, nil
}

func (w *blobWriter) write(p []byte) error {
	w.hash.Write(p)
	_, err := w.file.Write(p)
	return err
}

// append stores a chunk: comp if that is not nil, else plain. It sets the
// place of c in the blob. A chunk that is batched is written by endBatch.
func (w *blobWriter) append(c *chunk, plain, comp []byte, batched bool) error {
	info := &w.blob.info
	if info.ChunkCount >= rafs.MaxChunks-1 {
		return fmt.Errorf("more than %d chunks: choose a larger chunk size", rafs.MaxChunks-1)
	}
	c.index = info.ChunkCount
	c.compOff = uint64(w.file.off)
	c.uncompOff = w.uncomp
	if batched {
		c.flags = rafs.ChunkCompressed | rafs.ChunkBatch
	} else {
		stored := plain
		if comp != nil {
			stored = comp
			c.flags = rafs.ChunkCompressed
		}
		c.compSize = uint32(len(stored))
		if err := w.write(stored); err != nil {
			return err
		}
	}
	info.ChunkCount++
	w.uncomp += uint64(len(plain))
	if info.Features&rafs.BlobAligned != 0 {
		w.uncomp = align64(w.uncomp, blobAlign)
	}
	w.addMeta(c, uint32(w.contexts), uint32(len(w.batch)))
	return nil
}

// addMeta adds the entry of blob.meta for c. If c lies in a batch or in a gzip
// stream, its context has that number, and c is at off in the context's bytes.
func (w *blobWriter) addMeta(c *chunk, context, off uint32) {
	switch {
	case w.opt.Version == 5:
	case w.blob.info.Features&rafs.BlobChunkInfoV2 != 0:
		e := metaV2(c, w.blob.info.Features&rafs.BlobZran != 0, context, off)
		w.table.add(e[:])
	default:
		e := metaV1(c)
		w.table.add(e[:])
	}
}

// pieces are bytes that grow without being copied.
type pieces [][]byte

// piecesSize is the size of all but the last, in bytes: a multiple of that of
// entries.
const piecesSize = 48 << 10

// add appends e, all of which goes to one piece.
func (p *pieces) add(e []byte) {
	if n := len(*p); n == 0 || len((*p)[n-1])+len(e) > piecesSize {
		*p = append(*p, make([]byte, 0, piecesSize))
	}
	last := &(*p)[len(*p)-1]
	*last = append(*last, e...)
}

// metaV1 returns the entry of blob.meta for c.
func metaV1(c *chunk) (e [16]byte) {
	usize, csize := uint64(c.uncompSize-1), uint64(c.compSize-1)
	u := c.uncompOff | usize<<44 | usize>>12&0xf00
	v := c.compOff | csize<<44 | csize<<20&0xf00_0000_0000
	binary.LittleEndian.PutUint64(e[:], u)
	binary.LittleEndian.PutUint64(e[8:], v)
	return e
}

// metaV2 returns the larger entry of blob.meta for c, which lies in a gzip
// stream if zran is set.
func metaV2(c *chunk, zran bool, context, off uint32) (e [24]byte) {
	flags, data := uint64(0), uint64(0)
	if c.flags&rafs.ChunkCompressed != 0 {
		flags |= 1
	}
	switch {
	case zran:
		flags |= 2
	case c.flags&rafs.ChunkBatch != 0:
		flags |= 4
	}
	if flags&^1 != 0 {
		data = uint64(context)<<32 | uint64(off)
	}
	binary.LittleEndian.PutUint64(e[:], c.uncompOff>>12|uint64(c.uncompSize-1)<<32|flags<<56)
	binary.LittleEndian.PutUint64(e[8:], c.compOff|uint64(c.compSize)<<40)
	binary.LittleEndian.PutUint64(e[16:], data)
	return e
}

// endData ends the chunks: it writes the sections that describe them.
func (w *blobWriter) endData() error {
	info := &w.blob.info
	info.UncompressedSize = w.uncomp
	w.blob.dataSize = uint64(w.file.off)
	if err := w.tarHeader(sectionData, w.file.off); err != nil {
		return err
	}
	w.addTOC(rafs.TOCEntry{
		Flags: rafs.TOCNone, Name: sectionData, CompressedSize: w.blob.dataSize,
		UncompressedSize: w.uncomp, Digest: [32]byte(w.hash.Sum(nil)),
	})
	if w.opt.Version == 6 && info.ChunkCount > 0 {
		if err := w.metaSections(); err != nil {
			return err
		}
	}
	info.CompressedSize = uint64(w.file.off)
	return nil
}

// metaSections writes blob.meta and the chunks' digests.
func (w *blobWriter) metaSections() error {
	info := &w.blob.info
	h := rafs.MetaHeader{
		Features: info.Features, Entries: info.ChunkCount, Offset: uint64(w.file.off),
		ContextStart: 0, ContextSize: uint64(len(w.blob.batches)), Contexts: uint32(w.contexts),
	}
	table := slices.Concat(w.table...)
	w.table = nil
	if w.contexts > 0 {
		h.ContextStart = uint64(len(table))
		table = append(table, w.blob.batches...)
	}
	plain := table
	flag := uint32(rafs.TOCNone)
	coder := w.coder
	if w.opt.TOC && coder.compressor == storage.LZ4Block {
		// Those who take sections by the table of contents know zstd only.
		var err error
		if coder, err = w.opt.newCoder(storage.Zstd); err != nil {
			return err
		}
	}
	if out, ok := coder.compress(make([]byte, 0, bound(len(table))), table); ok {
		table = out
		h.Compressor = uint32(coder.compressor)
		if coder.compressor == storage.Zstd {
			flag = rafs.TOCZstd
		}
	}
	h.Compressed, h.Size = uint64(len(table)), uint64(len(plain))
	info.CICompressor, info.CIOffset = h.Compressor, h.Offset
	info.CICompressedSize, info.CISize = h.Compressed, h.Size
	header := h.Append(nil)
	if err := errors.Join(w.write(table), w.write(header), w.tarHeader(sectionMeta, int64(len(table)+len(header)))); err != nil {
		return err
	}
	w.addTOC(rafs.TOCEntry{
		Flags: flag, Name: sectionMeta, Digest: sha256.Sum256(plain),
		CompressedOffset: h.Offset, CompressedSize: h.Compressed, UncompressedSize: h.Size,
	})
	w.addTOC(rafs.TOCEntry{
		Flags: rafs.TOCNone, Name: sectionMetaHeader, Digest: sha256.Sum256(header),
		CompressedOffset: h.Offset + h.Compressed, CompressedSize: uint64(len(header)), UncompressedSize: uint64(len(header)),
	})
	if !w.opt.TOC {
		return nil
	}
	digests := make([]byte, 0, 32*len(w.blob.chunkList))
	for _, at := range w.blob.chunkList {
		digests = append(digests, w.chunks.at(at).digest[:]...)
	}
	return w.section(sectionDigests, rafs.TOCNone, digests, digests)
}

// section writes a section that is plain when uncompressed.
func (w *blobWriter) section(name string, flag uint32, stored, plain []byte) error {
	w.addTOC(rafs.TOCEntry{
		Flags: flag, Name: name, Digest: sha256.Sum256(plain), CompressedOffset: uint64(w.file.off),
		CompressedSize: uint64(len(stored)), UncompressedSize: uint64(len(plain)),
	})
	return errors.Join(w.write(stored), w.tarHeader(name, int64(len(stored))))
}

// inline writes the bootstrap into the blob.
func (w *blobWriter) inline(b bootstrap) error {
	buf := bytes.NewBuffer(make([]byte, 0, b.bytes()))
	if err := b.writeTo(buf); err != nil {
		return err
	}
	bootstrap := buf.Bytes()
	stored, flag := bootstrap, uint32(rafs.TOCNone)
	if w.opt.TOC {
		c, err := w.opt.newCoder(storage.Zstd)
		if err != nil {
			return err
		}
		if out, ok := c.compress(nil, bootstrap); ok {
			stored, flag = out, rafs.TOCZstd
		}
	}
	return w.section(sectionBootstrap, flag, stored, bootstrap)
}

// end writes the table of contents and settles the id. What the blob table
// says of an inlined bootstrap's blob was settled before.
func (w *blobWriter) end() (Blob, error) {
	info := &w.blob.info
	res := Blob{
		CompressedSize: int64(w.blob.dataSize), UncompressedSize: int64(info.UncompressedSize), Chunks: info.ChunkCount,
	}
	if w.opt.TOC {
		header := tarHeader(sectionTOC, int64(len(w.toc)))
		if err := errors.Join(w.write(w.toc), w.write(header)); err != nil {
			return res, err
		}
		res.TOCDigest = sha256.Sum256(append(w.toc, header...))
		res.TOCSize = uint32(len(w.toc) + len(header))
		if !w.opt.InlineMeta {
			info.TOCDigest, info.TOCSize = res.TOCDigest, res.TOCSize
		}
	}
	w.hash.Sum(res.SHA256[:0])
	res.Size = w.file.off
	res.ID = hex.EncodeToString(res.SHA256[:])
	if w.opt.BlobID != "" {
		res.ID = w.opt.BlobID
	}
	if !w.opt.InlineMeta {
		w.blob.id = res.ID
		info.CompressedSize = uint64(w.file.off)
	}
	if w.file.inDir {
		w.file.name = filepath.Join(w.file.name, res.ID)
	}
	res.Path = w.file.name
	return res, nil
}

// settle puts what is known of the complete blob into its entry of the blob
// table, which then is not that of the bootstrap in the blob any more.
func (w *blobWriter) settle(done *Blob) {
	w.blob.id = done.ID
	info := &w.blob.info
	info.Features &^= rafs.BlobInlinedMeta
	info.CompressedSize = uint64(done.Size)
	info.TOCDigest, info.TOCSize = done.TOCDigest, done.TOCSize
}

func (w *blobWriter) addTOC(e rafs.TOCEntry) {
	if w.opt.TOC {
		w.toc = e.Append(w.toc)
	}
}

// tarHeader writes the header that closes a section, if the blob has such.
func (w *blobWriter) tarHeader(name string, size int64) error {
	if w.blob.info.Features&rafs.BlobTarHeader == 0 {
		return nil
	}
	return w.write(tarHeader(name, size))
}

// tarHeader returns a GNU tar header of a regular file without owner, mode
// and time.
func tarHeader(name string, size int64) []byte {
	var h [512]byte
	copy(h[0:100], name)
	if size < 1<<33 {
		copy(h[124:136], fmt.Sprintf("%011o", size))
	} else {
		// GNU's binary form: the high bit, then a big-endian number.
		binary.BigEndian.PutUint64(h[128:136], uint64(size))
		h[124] = 0x80
	}
	copy(h[136:148], "00000000000")
	h[156] = '0'
	copy(h[257:265], "ustar  \x00")
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%07o\x00", sum))
	return h[:]
}
