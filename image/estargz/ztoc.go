package estargz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// A zTOC is what SOCI knows of a layer that stays as it is: its files, and
// the places in the gzip stream from which it can be decompressed. It is a
// FlatBuffer (ztoc/fbs/ztoc.fbs of soci-snapshotter). A place, and what comes
// up to the next, is a span, of some 4 MiB; its digest is over its compressed
// bytes.

// zspan is one of them.
type zspan struct {
	chunk storage.Chunk
	from  int64 // in the uncompressed layer
}

// zlayer has the spans of a layer.
type zlayer struct {
	blob  *storage.Blob
	spans []zspan
	size  int64 // of the uncompressed layer; without the zeros at its end, for gzip
}

// Kinds of a zTOC's compression_algorithm.
const (
	zGzip  = 1
	zPlain = 2
)

// maxLayer bounds the uncompressed size of a layer.
const maxLayer = 1 << 44

// SOCIBlob returns the id of the blob that the tree of a layer with a zTOC
// has. It stands for both: what another zTOC says of the layer is cached
// apart, since bytes can be told wrong only by their zTOC.
func SOCIBlob(layer string, ztoc []byte) string {
	sum := sha256.New()
	sum.Write([]byte(layer))
	own := sha256.Sum256(ztoc)
	sum.Write(own[:])
	return hex.EncodeToString(sum.Sum(nil))
}

// ztoc puts a layer with a zTOC on top.
func (m *merger) ztoc(l *Layer) error {
	f := newFlat(l.ZTOC)
	root := f.root()
	z := &zlayer{size: f.int64(root, 3)}
	if stored := f.int64(root, 2); stored != l.Size || z.size < 0 || z.size > maxLayer || f.bad {
		return bad("zTOC is of a layer of %d bytes, %d uncompressed; this one has %d", stored, z.size, l.Size)
	}
	z.blob = &storage.Blob{
		ID: SOCIBlob(l.ID, l.ZTOC), Index: len(m.blobs), Size: l.Size, DataSize: l.Size, Digester: storage.SHA256,
	}
	if err := z.parseSpans(f, f.sub(root, 5)); err != nil {
		return err
	}
	entries, err := parseFiles(f, f.sub(root, 4))
	if err != nil {
		return err
	}
	if err := m.layer(entries, z); err != nil {
		return err
	}
	z.finish()
	m.blobs = append(m.blobs, z.blob)
	return nil
}

// parseSpans reads the table CompressionInfo.
func (z *zlayer) parseSpans(f *flat, t table) error {
	points := f.raw(t, 3)
	at, n := f.vector(t, 2)
	if f.bad || n == 0 || n != int(int32(f.uint32(t, 1)))+1 {
		return bad("zTOC: %d digests for spans up to %d", n, int32(f.uint32(t, 1)))
	}
	var err error
	switch kind := f.byte(t, 0, zGzip); kind {
	case zGzip:
		err = z.gzipSpans(points, n)
	case zPlain:
		err = z.plainSpans(points, n)
	default:
		err = bad("zTOC: compression %d is not supported: gzip and none are", kind)
	}
	for i := 0; i < len(z.spans) && err == nil; i++ {
		d, ok := parseDigest(string(f.rawAt(at + 4*uint64(i))))
		if !ok || f.bad {
			return bad("zTOC: span %d has no digest", i)
		}
		z.spans[i].chunk.Digest = d
	}
	return err
}

// Sizes in the checkpoints of gzip, and where a first one that is left out
// is: behind a header without options.
const (
	zHeader     = 12 // count, span size
	zPoint      = 8 + 8 + 1 + zWindow
	zWindow     = 32 << 10
	gzipHeader  = 10
	maxBigSpans = 1 << 20
)

// gzipSpans makes spans of the checkpoints: for each its offset in the layer,
// that in the contents, how many bits of the byte before belong to it, and
// the 32 KiB of contents before it, all little-endian.
func (z *zlayer) gzipSpans(b []byte, n int) error {
	le := binary.LittleEndian
	if len(b) < zHeader || int(int32(le.Uint32(b))) != n || n > maxBigSpans {
		return bad("zTOC: %d bytes of checkpoints for %d spans", len(b), n)
	}
	b = b[zHeader:]
	implied := len(b) == (n-1)*zPoint
	if !implied && len(b) != n*zPoint {
		return bad("zTOC: %d bytes of checkpoints for %d spans", len(b), n)
	}
	z.blob.Compressor = storage.Gzip
	z.spans = make([]zspan, n)
	in := make([]int64, n)
	for i := range z.spans {
		s := &z.spans[i]
		g := &storage.Group{Deflate: true, Index: uint32(i)}
		in[i] = gzipHeader
		if i > 0 || !implied {
			p := b[:zPoint]
			b = b[zPoint:]
			in[i], s.from, g.Bits = int64(le.Uint64(p)), int64(le.Uint64(p[8:])), p[16]
			g.Lead = g.Bits != 0
			g.Dictionary = window(p[17:], s.from)
		}
		if in[i] <= 0 || in[i] > z.blob.Size || g.Bits > 7 || i == 0 && s.from != 0 || s.from < 0 {
			return bad("zTOC: checkpoint %d at %d of the layer, %d of its contents", i, in[i], s.from)
		}
		s.chunk.Group = g
	}
	for i := range z.spans {
		s := &z.spans[i]
		g := s.chunk.Group
		g.Offset = in[i]
		if g.Lead {
			g.Offset--
		}
		end := z.blob.Size
		if i+1 < n {
			end = in[i+1]
		}
		stored := end - g.Offset
		if stored <= 0 || stored > codec.MaxSize+codec.MaxSize/8 {
			return bad("zTOC: span %d of %d stored bytes", i, stored)
		}
		g.Size = uint32(stored)
		s.chunk.Flags = storage.InGroup | storage.Compressed | storage.StoredDigest
	}
	return z.place(func(s *zspan, size int64) {
		g := s.chunk.Group
		s.chunk.Offset, s.chunk.Size = g.Offset, g.Size
		g.UncompressedSize, g.Base = uint32(size), s.chunk.UncompressedOffset
	})
}

// window returns the part of a checkpoint's window that is contents: near the
// start of the layer there are less than 32 KiB of them.
func window(b []byte, from int64) []byte {
	if from <= 0 {
		return nil
	}
	return bytes.Clone(b[zWindow-min(from, zWindow):])
}

// plainSpans cuts a layer that is not compressed; b is the FlatBuffer of
// ztoc/compression/fbs/zinfo.fbs.
func (z *zlayer) plainSpans(b []byte, n int) error {
	f := newFlat(b)
	step := f.int64(f.root(), 1)
	if f.bad || step <= 0 || step > codec.MaxSize || z.size > z.blob.Size || int64(n) != max((z.blob.Size+step-1)/step, 1) {
		return bad("zTOC: %d spans of %d bytes for a layer of %d", n, step, z.blob.Size)
	}
	z.size = z.blob.Size
	z.spans = make([]zspan, n)
	for i := range z.spans {
		z.spans[i].from = int64(i) * step
		z.spans[i].chunk.Flags = storage.HasDigest
	}
	return z.place(func(s *zspan, size int64) {
		s.chunk.Offset, s.chunk.Size = s.from, uint32(size)
	})
}

// place gives the spans their sizes and their places in the cache.
func (z *zlayer) place(each func(s *zspan, size int64)) error {
	for n := len(z.spans); n > 1 && z.spans[n-1].from >= z.size; n-- {
		z.spans = z.spans[:n-1] // nothing but zeros behind the archive's end
	}
	largest := int64(0)
	for i := range z.spans {
		s := &z.spans[i]
		end := z.size
		if i+1 < len(z.spans) {
			end = z.spans[i+1].from
		}
		size := end - s.from
		if size <= 0 && (z.size > 0 || i > 0) || size > codec.MaxSize {
			return bad("zTOC: span %d of %d bytes; at most %d are supported", i, size, codec.MaxSize)
		}
		s.chunk.Blob, s.chunk.Index = z.blob, uint32(i)
		s.chunk.UncompressedOffset, s.chunk.UncompressedSize = z.blob.UncompressedSize, uint32(size)
		z.blob.UncompressedSize += (size + 4095) &^ 4095
		z.blob.ChunkCount++
		largest = max(largest, size)
		each(s, size)
	}
	z.blob.ChunkSize = 4096
	for int64(z.blob.ChunkSize) < largest {
		z.blob.ChunkSize *= 2
	}
	return nil
}

// finish lets the spans be read ahead.
func (z *zlayer) finish() {
	spans := z.spans
	z.blob.Neighbour = func(i uint32) (c storage.Chunk, ok bool) {
		if i < uint32(len(spans)) {
			c, ok = spans[i].chunk, true
		}
		return c, ok
	}
}

// file is that of content: Offset is the place in the uncompressed layer.
func (z *zlayer) file(entries []tocEntry) (out []span, n int, err error) {
	e := &entries[0]
	if e.Size < 0 || e.Offset < 0 || e.Offset > z.size || e.Size > z.size-e.Offset {
		return nil, 1, bad("%q: %d bytes at %d of %d", e.Name, e.Size, e.Offset, z.size)
	}
	if e.Size == 0 {
		return nil, 1, nil
	}
	i, found := slices.BinarySearchFunc(z.spans, e.Offset, func(s zspan, at int64) int {
		switch {
		case s.from < at:
			return -1
		case s.from > at:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	for off := int64(0); off < e.Size; i++ {
		s := &z.spans[i]
		skip := e.Offset + off - s.from
		size := min(e.Size-off, int64(s.chunk.UncompressedSize)-skip)
		out = append(out, span{off: off, size: size, skip: uint32(skip), chunk: s.chunk})
		off += size
	}
	return out, 1, nil
}

// maxZFiles bounds the files of one layer.
const maxZFiles = 4 << 20

// parseFiles reads the table TOC.
func parseFiles(f *flat, t table) ([]tocEntry, error) {
	at, n := f.vector(t, 0)
	if f.bad || n > maxZFiles {
		return nil, bad("zTOC: %d files", n)
	}
	entries := make([]tocEntry, 0, n)
	for i := range n {
		e := parseFile(f, table(f.follow(at+4*uint64(i))))
		if f.bad {
			return nil, bad("zTOC: file %d leads out of it", i)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// parseFile reads the table FileMetadata.
func parseFile(f *flat, t table) (e tocEntry) {
	e = tocEntry{
		Name: f.string(t, 0), Type: f.string(t, 1), Offset: f.int64(t, 2), Size: f.int64(t, 3),
		LinkName: f.string(t, 4), Mode: uint32(f.int64(t, 5)), UID: f.uint32(t, 6), GID: f.uint32(t, 7),
		ModTime: f.string(t, 10), DevMajor: uint32(f.int64(t, 11)), DevMinor: uint32(f.int64(t, 12)),
	}
	at, n := f.vector(t, 13)
	for i := range n {
		x := table(f.follow(at + 4*uint64(i)))
		key := string(f.raw(x, 0)[:min(len(f.raw(x, 0)), 300)])
		name, ok := strings.CutPrefix(key, paxXattr)
		if f.bad {
			return e
		}
		if !ok {
			continue // another record of the archive
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = []byte(f.string(x, 1))
	}
	return e
}

// paxXattr begins the keys of extended attributes in PAX records.
const paxXattr = "SCHILY.xattr."
