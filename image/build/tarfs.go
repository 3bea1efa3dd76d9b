package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"

	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// tarfsBlock is the block size of a tarfs image: that of a tar, so that file
// data is found in the tar where it is.
const tarfsBlock = 512

// inPlace reports whether the tar stays what the image's data is.
func (o *Options) inPlace() bool { return o.Tarfs || o.TargzRef }

// inPlace is a tar whose bytes are the image's data where they are: what the
// entries are read from.
type inPlace interface {
	io.Reader
	// place gives the regular file n, whose bytes r is about to read, its
	// chunks; path is for messages.
	place(b *builder, n *inode, r io.Reader, path string) error
	// end comes when the tar has been read to its end.
	end(b *builder)
}

// isSparse reports whether the bytes of a file are not in the tar as they are.
func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
}

// tarfs is the blob of a tarfs image: the plain tar as it passes by. It is
// the reader that the tar's entries are read from.
type tarfs struct {
	r    io.Reader
	off  int64 // bytes read so far
	hash hash.Hash
	file *outFile // nil if the tar is not to be written
	blob *blob
}

// checkTarfs says which other options do not go with tarfs.
func (o *Options) checkTarfs() error {
	switch {
	case !o.Tarfs:
		return nil
	case o.Version != 6:
		return errors.New("tarfs is not supported in RAFS v5")
	case o.Compressor != storage.None || o.BatchSize != 0 || o.TOC || o.InlineMeta:
		return errors.New("the data of a tarfs image is the tar itself: no compression, batches, table of contents or inlined bootstrap")
	case o.Parent != nil || len(o.Dicts) > 0:
		return errors.New("a tarfs image has no parent and no chunk dictionary")
	}
	return nil
}

// newTarfs begins the blob of the layer.
func (b *builder) newTarfs(r io.Reader) (*tarfs, error) {
	if len(b.store.blobs) > 0 {
		return nil, errors.New("a tarfs image is made of one tar: make one of each layer and merge them")
	}
	t := &tarfs{r: r, hash: sha256.New(), blob: &blob{ours: true}}
	var err error
	t.file, err = b.out.newBlob()
	t.blob.info = rafs.BlobInfo{
		ChunkSize: b.opt.ChunkSize, Digester: uint32(b.opt.Digester), Features: rafs.BlobTarfs | rafs.BlobCapTarTOC,
	}
	b.store.addBlob(t.blob)
	return t, err
}

func (t *tarfs) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.off += int64(n)
	t.hash.Write(p[:n])
	if t.file != nil {
		if _, err := t.file.Write(p[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

// place gives the regular file n its chunks: they are in the tar from here
// on.
func (t *tarfs) place(b *builder, n *inode, _ io.Reader, path string) error {
	if t.off%tarfsBlock != 0 {
		return fmt.Errorf("its data is at %d, not at a multiple of %d", t.off, tarfsBlock)
	}
	if err := b.makeChunks(n, path); err != nil {
		return err
	}
	left := uint64(n.size)
	chunks := n.chunks()
	for i := range chunks {
		size := min(left, uint64(b.opt.ChunkSize))
		off := uint64(t.off) + uint64(i)*uint64(b.opt.ChunkSize)
		chunks[i] = b.store.add(&chunk{
			blob: t.blob.at, compOff: off, uncompOff: off, compSize: uint32(size), uncompSize: uint32(size),
			index: t.blob.info.ChunkCount % rafs.MaxChunks, fileOff: uint64(i) * uint64(b.opt.ChunkSize),
		}, false)
		t.blob.info.ChunkCount++
		left -= size
	}
	if t.blob.info.ChunkCount > rafs.MaxChunks {
		return fmt.Errorf("more than %d chunks: choose a larger chunk size", rafs.MaxChunks)
	}
	b.stats.chunks += uint64(len(chunks))
	return nil
}

// end settles what the tar is called.
func (t *tarfs) end(b *builder) {
	var sum [32]byte
	t.hash.Sum(sum[:0])
	id := hex.EncodeToString(sum[:])
	if b.opt.BlobID != "" {
		id = b.opt.BlobID
	}
	t.blob.id = id
	t.blob.info.CompressedSize = align64(uint64(t.off), tarfsBlock)
	t.blob.info.UncompressedSize = t.blob.info.CompressedSize
	t.blob.dataSize = uint64(t.off)
	if t.file == nil {
		return
	}
	if t.file.inDir {
		t.file.name = filepath.Join(t.file.name, id)
	}
	b.tars = append(b.tars, Blob{
		ID: id, Path: t.file.name, Size: t.off, SHA256: sum, CompressedSize: t.off, UncompressedSize: t.off, Chunks: t.blob.info.ChunkCount,
	})
}
