package rafs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

var _ image.MetaLoader = (*V6)(nil)

// maxMetaSize bounds the uncompressed table of blob.meta, in bytes: entries
// of 2^24 chunks and a GiB of dictionaries.
const maxMetaSize = MaxChunks*entryV2Size + 1<<30

// LoadMeta reads the chunk information of those blobs whose chunks the
// bootstrap alone does not place: batch chunks, gzip streams, and images
// without a chunk table. Blobs that have theirs already are left out.
func (t *V6) LoadMeta(ctx context.Context, b storage.Backend) error {
	for i := range t.blobs {
		info := &t.infos[i]
		if t.metas[i] != nil || t.tarfs() || info.ChunkCount == 0 || !info.needMeta() && t.chunks.len() > 0 {
			continue
		}
		m, err := t.fetchMeta(ctx, b, i)
		if err != nil {
			return fmt.Errorf("chunk information of blob %s: %w", t.blobs[i].ID, err)
		}
		if err := t.AttachMeta(i, m); err != nil {
			return errors.Join(err, m.Close())
		}
	}
	return nil
}

// metaID returns the name of the object that holds the chunk information of
// blob i.
func (t *V6) metaID(i int) string {
	if info := &t.infos[i]; info.Features&BlobSeparate != 0 && info.MetaDigest != [32]byte{} {
		return hex.EncodeToString(info.MetaDigest[:])
	}
	return t.blobs[i].ID
}

func (t *V6) fetchMeta(ctx context.Context, b storage.Backend, i int) (*Meta, error) {
	info, id := &t.infos[i], t.metaID(i)
	if info.Features&BlobEncrypted != 0 {
		return nil, t.Errorf(-1, "encrypted chunk information is not supported")
	}
	size, err := b.Size(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &blobReader{ctx, b, id}
	if info.CIOffset > uint64(size) || info.CICompressedSize > uint64(size)-info.CIOffset ||
		uint64(size)-info.CIOffset-info.CICompressedSize < MetaHeaderSize {
		return nil, t.Errorf(-1, "chunk information at %d+%d ends behind the %d bytes of %s", info.CIOffset, info.CICompressedSize, size, id)
	}
	header := make([]byte, MetaHeaderSize)
	if _, err := r.ReadAt(header, int64(info.CIOffset+info.CICompressedSize)); err != nil {
		return nil, err
	}
	h, ok := ParseMetaHeader(header)
	if !ok || h.Entries != info.ChunkCount || h.Compressor != info.CICompressor || h.Offset != info.CIOffset ||
		h.Compressed != info.CICompressedSize || h.Size != info.CISize || h.Compressor > uint32(storage.Zstd) {
		return nil, t.Errorf(-1, "header of the chunk information in %s is not what the image says", id)
	}
	table := io.NewSectionReader(r, int64(info.CIOffset), int64(info.CICompressedSize))
	m, err := decompress(table, storage.Compressor(h.Compressor), h.Size, maxMetaSize)
	if err != nil {
		return nil, err
	}
	meta, err := metaFrom(h, m)
	if err == nil && info.Features&BlobInlinedChunkDigest != 0 && t.chunks.len() == 0 {
		err = meta.readDigests(r, size, info)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return meta, nil
}

// metaFrom makes a Meta of the table in m, which it then owns.
func metaFrom(h MetaHeader, m *mmap.Map) (*Meta, error) {
	meta, err := ParseMeta(h, m.Bytes()[:h.Size])
	if err != nil {
		return nil, err
	}
	meta.release = m.Close
	return meta, nil
}

// readDigests reads the digests of the chunks, a section of their own.
func (m *Meta) readDigests(r io.ReaderAt, size int64, info *BlobInfo) error {
	toc, err := ReadTOC(r, size, info.TOCDigest)
	if err != nil {
		return err
	}
	e, err := section(toc, SectionDigest)
	if err != nil {
		return err
	}
	if e.UncompressedSize != uint64(m.Header.Entries)*32 {
		return fmt.Errorf("section %s: %d bytes for %d chunks", e.Name, e.UncompressedSize, m.Header.Entries)
	}
	digests, err := readSection(r, size, e, MaxChunks*32)
	if err != nil {
		return err
	}
	m.digests = digests.Bytes()
	table := m.release
	m.release = func() error { return errors.Join(digests.Close(), table()) }
	return nil
}

// OpenMeta maps a ".blob.meta" file as a cache directory has it: the
// uncompressed table, zeros up to a multiple of 4096 bytes, the header.
func OpenMeta(name string) (meta *Meta, err error) {
	m, err := mmap.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			m.Close()
		}
	}()
	n := len(m.Bytes()) - MetaHeaderSize
	if n < 0 {
		return nil, errors.New("too short for a header")
	}
	h, ok := ParseMetaHeader(m.Bytes()[n:])
	if !ok {
		return nil, errors.New("no header at its end")
	}
	if h.Size > uint64(n) {
		return nil, fmt.Errorf("table of %d bytes in %d", h.Size, n)
	}
	return metaFrom(h, m)
}

// Chunk returns what is known of chunk i of blob b, for which m is: all but
// the digest, if the blob does not hold its chunks' digests.
func (m *Meta) Chunk(b *storage.Blob, i uint32) (c storage.Chunk, err error) {
	err = m.fill(&c, b, i, func(offset int64, format string, args ...any) error {
		return formatError("blob.meta", offset, format, args...)
	})
	return c, err
}

// blobReader reads one blob of a backend.
type blobReader struct {
	ctx  context.Context // of the one call that made it
	b    storage.Backend
	blob string
}

func (r *blobReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.b.ReadAt(r.ctx, r.blob, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}
