package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
	"github.com/sluicefs/sluice/storage/codec/seek"
)

// When a new stretch of the gzip stream begins: a reader of one chunk fetches
// and decompresses the stretch that it is in, and each costs the index a
// window of 32 KiB.
const (
	targzMaxOut   = 2 << 20   // bytes of content; beyond it only within one block of deflate
	targzMaxIn    = 1 << 20   // compressed bytes
	targzMaxGap   = 256 << 10 // bytes of content that no file needs
	targzMaxChunk = 4 << 20   // largest chunk size, so that a stretch of a few is decodable
	targzMaxDicts = 1 << 30   // bytes of windows in all
)

// targz is the blob of an image that refers to a tar.gz: the file as it
// passes by, and where in it decompression can start. It is the reader that
// the tar's entries are read from. It belongs to the source's goroutine.
type targz struct {
	borders *seek.Borders
	off     int64 // bytes of the tar read so far
	hash    hash.Hash
	size    int64 // bytes of the file read so far
	buf     []byte
	coder   *coder

	blob     *blob
	index    *blobWriter // of the blob beside, which says how to read this one
	contexts []byte
	dicts    []byte
	cur      storage.Group // the stretch under way, Size being 0 if there is none
	until    int64         // end of its contents, in the tar
}

// checkTargzRef says which other options do not go with TargzRef.
func (o *Options) checkTargzRef() error {
	switch {
	case !o.TargzRef:
		return nil
	case o.Version != 6:
		return errors.New("images that refer to a tar.gz are not supported in RAFS v5")
	case o.Tarfs || o.Compressor != storage.None || o.BatchSize != 0 || o.InlineMeta || o.BlobID != "":
		return errors.New("the data of the image is the tar.gz itself: no tarfs, compression, batches, inlined bootstrap or blob id")
	case o.Parent != nil || len(o.Dicts) > 0:
		return errors.New("an image that refers to a tar.gz has no parent and no chunk dictionary")
	case o.ChunkSize > targzMaxChunk:
		return fmt.Errorf("chunk size %d: an image that refers to a tar.gz has chunks of at most %d bytes", o.ChunkSize, targzMaxChunk)
	}
	return nil
}

// newTargz begins the blob of the layer.
func (b *builder) newTargz(r io.Reader) (*targz, error) {
	if b.targz != nil {
		return nil, errors.New("an image that refers to a tar.gz is made of one: make one of each layer and merge them")
	}
	// The table is compressed with zstd whatever the chunks are.
	c, err := b.opt.newCoder(storage.Zstd)
	if err != nil {
		return nil, err
	}
	z := &targz{hash: sha256.New(), coder: c, blob: &blob{ours: true}}
	z.blob.info = rafs.BlobInfo{
		ChunkSize: b.opt.ChunkSize, Compressor: uint32(storage.Gzip), Digester: uint32(b.opt.Digester),
		Features: rafs.BlobAligned | rafs.BlobChunkInfoV2 | rafs.BlobZran | rafs.BlobSeparate | rafs.BlobCapTarTOC,
	}
	if b.opt.TOC {
		z.blob.info.Features |= rafs.BlobTarHeader | rafs.BlobTOC | rafs.BlobInlinedChunkDigest
	}
	z.index = &blobWriter{opt: b.opt, blob: z.blob, chunks: &b.store.chunks, hash: sha256.New(), coder: c}
	z.borders = seek.NewBorders(io.TeeReader(r, (*targzInput)(z)))
	b.store.addBlob(z.blob)
	b.targz = z
	return z, nil
}

// targzInput takes the compressed bytes.
type targzInput targz

func (z *targzInput) Write(p []byte) (int, error) {
	z.size += int64(len(p))
	return z.hash.Write(p)
}

func (z *targz) Read(p []byte) (int, error) {
	n, err := z.borders.Read(p)
	z.off += int64(n)
	return n, err
}

// place reads the regular file n and gives it its chunks.
func (z *targz) place(b *builder, n *inode, r io.Reader, path string) error {
	if err := b.makeChunks(n, path); err != nil {
		return err
	}
	if z.buf == nil {
		z.buf = make([]byte, b.opt.ChunkSize)
	}
	left := n.size
	chunks := n.chunks()
	for i := range chunks {
		p := z.buf[:min(left, int64(len(z.buf)))]
		from := z.off
		if err := readFull(r, p, path); err != nil {
			return err
		}
		b.stats.chunks++
		digest := z.coder.digest(p)
		at, known := b.store.find(&digest)
		if known {
			b.stats.dedup++
			b.stats.dedupSize += int64(len(p))
		} else {
			var err error
			c := chunk{digest: digest, blob: z.blob.at, uncompSize: uint32(len(p)), fileOff: uint64(n.size - left)}
			if at, err = z.add(b, &c, from); err != nil {
				return err
			}
		}
		chunks[i] = at
		left -= int64(len(p))
		b.opt.Progress(int64(len(p)))
	}
	return nil
}

// add stores that c is what has just been read, from the offset from of the
// tar on.
func (z *targz) add(b *builder, c *chunk, from int64) (uint32, error) {
	info := &z.blob.info
	if info.ChunkCount >= rafs.MaxChunks-1 {
		return 0, fmt.Errorf("more than %d chunks: choose a larger chunk size", rafs.MaxChunks-1)
	}
	if z.off-from != int64(c.uncompSize) {
		return 0, errors.New("its data does not lie in the tar as it is")
	}
	start, ok := z.borders.Before(from)
	if !ok {
		return 0, errors.New("no block of deflate starts before it")
	}
	if err := z.extend(start, from); err != nil {
		return 0, err
	}
	c.index, c.flags = info.ChunkCount, rafs.ChunkCompressed
	c.compOff, c.compSize = uint64(start.In), uint32(z.borders.Consumed()-start.In)
	c.uncompOff = z.index.uncomp
	info.ChunkCount++
	z.index.uncomp = align64(z.index.uncomp+uint64(c.uncompSize), blobAlign)
	z.index.addMeta(c, uint32(z.index.contexts), uint32(from-z.cur.Base))
	return b.store.add(c, true), nil
}

// extend has the stretch under way reach to what has been read, or begins a
// new one at start, the last point before the offset from of the tar.
func (z *targz) extend(start seek.Point, from int64) error {
	in := z.borders.Consumed()
	far := z.off-z.cur.Base > targzMaxOut || in-z.cur.Offset > targzMaxIn || from-z.until > targzMaxGap
	if z.cur.Size == 0 || far && start.Out > z.cur.Base {
		z.closeStretch()
		if len(z.dicts)+len(start.Window) > targzMaxDicts {
			return fmt.Errorf("more than %d bytes of windows: the archive is too large", targzMaxDicts)
		}
		z.cur = storage.Group{
			Offset: start.In, Base: start.Out, Bits: start.Bits, BitsByte: start.First, Dictionary: start.Window,
		}
	}
	if z.off-z.cur.Base > codec.MaxSize || in-z.cur.Offset > codec.MaxSize-1 {
		return fmt.Errorf("a block of deflate that is longer than %d bytes can not be referred to", codec.MaxSize)
	}
	z.cur.Size, z.cur.UncompressedSize = uint32(in-z.cur.Offset), uint32(z.off-z.cur.Base)
	z.until = z.off
	return nil
}

// closeStretch adds the stretch under way to the index.
func (z *targz) closeStretch() {
	if z.cur.Size == 0 {
		return
	}
	z.contexts = rafs.AppendZranContext(z.contexts, &z.cur, uint64(len(z.dicts)))
	z.dicts = append(z.dicts, z.cur.Dictionary...)
	z.index.contexts++
	z.cur = storage.Group{}
}

// end settles what the archive is called.
func (z *targz) end(*builder) {
	z.closeStretch()
	z.blob.id = hex.EncodeToString(z.hash.Sum(nil))
	z.blob.dataSize = uint64(z.size)
}

// writeIndex writes the small blob that says how to read the archive.
func (z *targz) writeIndex(b *builder, res *Result) error {
	info := &z.blob.info
	if info.ChunkCount == 0 {
		return nil
	}
	w := z.index
	var err error
	if w.file, err = b.out.newBlob(); err != nil {
		return err
	}
	if w.file == nil {
		return errors.New("there is an index, but no blob or blob directory is named to write it to")
	}
	z.blob.batches = append(z.contexts, z.dicts...)
	z.contexts, z.dicts = nil, nil
	info.UncompressedSize = w.uncomp
	if err := w.metaSections(); err != nil {
		return err
	}
	z.blob.batches = nil
	id := z.blob.id
	done, err := w.end()
	if err != nil {
		return err
	}
	z.blob.id = id
	info.CompressedSize = uint64(z.size)
	info.MetaDigest, info.MetaSize = done.SHA256, uint64(done.Size)
	done.CompressedSize = 0 // the chunks are elsewhere
	res.Archive = id
	res.Written = append(res.Written, done)
	return nil
}
