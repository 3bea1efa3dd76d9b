package rafs_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
)

// visit opens b and asks it for all it has. It returns the first error.
func visit(t *testing.T, b []byte) error {
	t.Helper()
	tree, err := openBytes(t, b)
	if err != nil {
		return err
	}
	t.Cleanup(func() { tree.Close() })
	tree.Prefetch()
	return imagetest.Walk(tree, 1000, func(e *imagetest.Entry) error {
		if e.Mode&image.TypeMask != image.TypeRegular {
			return nil
		}
		_, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
		return err
	})
}

// corruption is one wrong field of an image and what is said of it.
type corruption struct {
	name   string
	change func(b []byte)
	offset int64  // of the field or the structure; -1 if it is not one place
	want   string // in the error
}

// refused checks that each corruption of a fixture gives a FormatError that
// names the place, and nothing else.
func refused(t *testing.T, fixture, format string, all []corruption) {
	t.Helper()
	good := imagetest.File(t, "testdata", fixture)
	if err := visit(t, good); err != nil {
		t.Fatalf("%s as it is: %v", fixture, err)
	}
	for _, tt := range all {
		t.Run(tt.name, func(t *testing.T) {
			b := append([]byte(nil), good...)
			tt.change(b)
			err := visit(t, b)
			var wrong *image.FormatError
			if !errors.As(err, &wrong) {
				t.Fatalf("got %T %v, want a FormatError", err, err)
			}
			if wrong.Format != format || wrong.Offset != tt.offset || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q of %s at %d, want %q of %s at %d", err, wrong.Format, wrong.Offset, tt.want, format, tt.offset)
			}
		})
	}
}

// put sets little-endian numbers.
func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
}

func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
}

func TestCorruptV6(t *testing.T) {
	const (
		ext    = rafs.ExtSuperOffset
		blobs  = 4096  // the one entry of the blob table
		chunks = 16384 // the first record of the chunk table
	)
	blob := func(change func(*rafs.BlobInfo)) func([]byte) {
		return func(b []byte) {
			i, _ := rafs.ParseBlobInfo(b[blobs:])
			change(&i)
			copy(b[blobs:], i.Append(nil))
		}
	}
	chunk := func(change func(*rafs.ChunkInfo)) func([]byte) {
		return func(b []byte) {
			c, _ := rafs.ParseChunkInfo(b[chunks:])
			change(&c)
			copy(b[chunks:], c.Append(nil))
		}
	}
	super := func(change func(*rafs.ExtSuper)) func([]byte) {
		return func(b []byte) {
			x, _ := rafs.ParseExtSuper(b[ext:])
			change(&x)
			copy(b[ext:], x.Append(nil))
		}
	}
	refused(t, "rafs-v6-2.2.boot", "rafs v6", []corruption{
		{"unknown flag", super(func(x *rafs.ExtSuper) { x.Flags |= 1 << 40 }), ext, "are not known"},
		{"two compressors", super(func(x *rafs.ExtSuper) { x.Flags |= rafs.CompressionNone | rafs.CompressionZstd }), ext, "not one compressor"},
		{"no digester", super(func(x *rafs.ExtSuper) { x.Flags &^= rafs.HashBLAKE3 | rafs.HashSHA256 }), ext, "not one digester"},
		{"block size of a tar", super(func(x *rafs.ExtSuper) { x.Flags |= rafs.TarfsMode }), 1024 + 12, "block size"},
		{"chunk size", super(func(x *rafs.ExtSuper) { x.ChunkSize = 4097 }), ext + 20, "chunk size 4097"},
		{"blob table outside", super(func(x *rafs.ExtSuper) { x.BlobTableOffset = 1 << 62 }), ext + 8, "blob table"},
		{"blob table in part", super(func(x *rafs.ExtSuper) { x.BlobTableSize-- }), ext + 8, "whole records"},
		{"no blob", super(func(x *rafs.ExtSuper) { x.BlobTableSize = 0 }), ext + 16, "0 blobs but 1 devices"},
		{"chunk table outside", super(func(x *rafs.ExtSuper) { x.ChunkTableSize += 80 * 1000 }), ext + 24, "chunk table"},
		{"chunk table in part", super(func(x *rafs.ExtSuper) { x.ChunkTableSize-- }), ext + 24, "whole records"},
		{"chunk table in the superblock", super(func(x *rafs.ExtSuper) { x.ChunkTableOffset = 8 }), ext + 24, "lies in the superblock"},
		{"prefetch table outside", super(func(x *rafs.ExtSuper) { x.PrefetchOffset, x.PrefetchSize = 1<<64-4, 4 }), ext + 40, "prefetch table"},
		{"tables overlap", super(func(x *rafs.ExtSuper) { x.PrefetchOffset, x.PrefetchSize = x.ChunkTableOffset, 4 }), ext + 40, "overlaps the chunk table"},

		{"number of the blob", blob(func(i *rafs.BlobInfo) { i.Index = 7 }), blobs + 64, "blob 0: says that it is blob 7"},
		{"chunk size of the blob", blob(func(i *rafs.BlobInfo) { i.ChunkSize *= 2 }), blobs + 68, "blob 0: chunk size"},
		{"count of chunks", blob(func(i *rafs.BlobInfo) { i.ChunkCount = 1<<24 + 1 }), blobs + 72, "chunks are more than"},
		{"compressor", blob(func(i *rafs.BlobInfo) { i.Compressor = 99 }), blobs + 76, "compressor 99"},
		{"digester", blob(func(i *rafs.BlobInfo) { i.Digester = 99 }), blobs + 80, "digester 99"},
		{"unknown feature", blob(func(i *rafs.BlobInfo) { i.Features |= 0x8000 }), blobs + 84, "0x8000 are not known"},
		{"batch without v2", blob(func(i *rafs.BlobInfo) { i.Features = i.Features&^rafs.BlobChunkInfoV2 | rafs.BlobBatch }), blobs + 84, "need chunk information of version 2"},
		{"tar in no tar image", blob(func(i *rafs.BlobInfo) { i.Features |= rafs.BlobTarfs }), blobs + 84, "do not agree on tarfs"},
		{"not aligned", blob(func(i *rafs.BlobInfo) { i.Features &^= rafs.BlobAligned }), blobs + 84, "lack aligned chunks"},
		{"size", blob(func(i *rafs.BlobInfo) { i.CompressedSize = 1 << 63 }), blobs + 88, "is too large"},
		{"uncompressed size", blob(func(i *rafs.BlobInfo) { i.UncompressedSize = 1 << 63 }), blobs + 96, "is too large"},
		{"cipher", blob(func(i *rafs.BlobInfo) { i.Cipher = 2 }), blobs + 216, "cipher 2 is not supported"},
		{"encrypted without cipher", blob(func(i *rafs.BlobInfo) { i.Features |= rafs.BlobEncrypted | rafs.BlobChunkInfoV2 }), blobs + 216, "with no cipher"},
		{"id with a slash", blob(func(i *rafs.BlobInfo) { i.ID[3] = '/' }), blobs, "is not a name"},
		{"id that is hidden", blob(func(i *rafs.BlobInfo) { copy(i.ID[:], "..\x00") }), blobs, "is not a name"},
		{"no id", blob(func(i *rafs.BlobInfo) { i.ID = [64]byte{} }), blobs, "is not a name"},

		{"empty chunk", chunk(func(c *rafs.ChunkInfo) { c.UncompressedSize = 0 }), -1, "uncompressed size is not within"},
		{"chunk too large", chunk(func(c *rafs.ChunkInfo) { c.UncompressedSize = 1 << 31 }), -1, "uncompressed size is not within"},
		{"chunk behind the data", chunk(func(c *rafs.ChunkInfo) { c.UncompressedOffset = 1 << 60 }), -1, "uncompressed range ends behind the blob"},
		{"chunk elsewhere", chunk(func(c *rafs.ChunkInfo) { c.UncompressedOffset++; c.UncompressedSize-- }), -1, "the index says"},
		{"chunk too small", chunk(func(c *rafs.ChunkInfo) { c.UncompressedSize = 1; c.Flags |= rafs.ChunkCompressed }), -1, "the file needs"},
		{"chunk stored behind the blob", chunk(func(c *rafs.ChunkInfo) { c.CompressedOffset = 1 << 50 }), -1, "stored range"},
		{"chunk of no stored bytes", chunk(func(c *rafs.ChunkInfo) { c.CompressedSize = 0 }), -1, "stored size 0"},
		{"chunk of odd stored size", chunk(func(c *rafs.ChunkInfo) { c.Flags &^= rafs.ChunkCompressed; c.CompressedSize = 1 }), -1, "is not compressed but has 1 bytes"},
		{"chunk encrypted alone", chunk(func(c *rafs.ChunkInfo) { c.Flags |= rafs.ChunkEncrypted }), -1, "is encrypted, its blob is not"},
		{"chunk of another blob", chunk(func(c *rafs.ChunkInfo) { c.Blob = 9 }), -1, "has no record"},
		{"chunk found through groups only", blob(func(i *rafs.BlobInfo) { i.Features |= rafs.BlobBatch | rafs.BlobChunkInfoV2 }), -1, "which has not been loaded"},
	})
}

func TestCorruptV5(t *testing.T) {
	const fixture = "v5-blake3-none-ext.boot"
	b := imagetest.File(t, "testdata", fixture)
	le := binary.LittleEndian
	at := func(field int) int { return int(le.Uint64(b[field:])) }
	root := int(le.Uint32(b[at(32):])) << 3
	names, ext := at(48), at(72)
	file, records := firstFile(t, b)
	refused(t, fixture, "rafs v5", []corruption{
		{"size of the superblock", put32(8, 4096), 8, "says that it has 4096 bytes"},
		{"chunk size", put32(12, 5000), 12, "chunk size 5000"},
		{"no compressor", put64(16, uint64(rafs.HashBLAKE3)), 16, "not one compressor"},
		{"two digesters", put64(16, uint64(rafs.CompressionNone|rafs.HashBLAKE3|rafs.HashSHA256)), 16, "not one digester"},
		{"unknown flag", put64(16, uint64(rafs.CompressionNone|rafs.HashBLAKE3|1<<40)), 16, "are not known"},
		{"inode table outside", put64(32, 1<<63), 32, "inode table"},
		{"inode table too long", put32(56, 1<<31), 32, "inode table"},
		{"prefetch table too long", put32(60, 1<<31), 40, "prefetch table"},
		{"blob table too long", put32(64, 1<<31), 48, "blob table"},
		{"extended blob table outside", put64(72, 1<<63), 72, "extended blob table"},
		{"entries for other blobs", put32(68, 0x7), 68, "7 entries in the extended blob table"},
		{"no inode", put32(56, 0), -1, "inode 1 of 0"},
		{"id with a slash", func(b []byte) { b[names+8+3] = '/' }, int64(names) + 8, "is not a name"},
		{"id that is hidden", func(b []byte) { b[names+8] = '.' }, int64(names) + 8, "is not a name"},
		{"count of chunks", put32(ext, 1<<25), 72, "blob 0 has 33554432 chunks"},
		{"uncompressed size", put64(ext+8, 1<<60), 72, "uncompressed"},
		{"stored size", put64(ext+16, 1<<60), 72, "stored"},
		{"inode in the superblock", put32(at(32), 1), 8, "not within the image"},
		{"inode behind the image", put32(at(32), 1<<31), 1 << 34, "not within the image"},

		{"root is a file", put32(root+60, image.TypeRegular|0o644), int64(root), "inode 1"},
		{"type", put32(root+60, 0o644), int64(root) + 60, "no known file type"},
		{"directory's children before it", put32(root+92, 1), int64(root) + 92, "inode 1: children"},
		{"directory's children behind all", put32(root+96, 1<<31), int64(root) + 92, "inode 1: children"},
		{"no name", put32(root+100, 0), int64(root) + 100, "name of 0 bytes"},
		{"size", put64(root+64, 1<<63), int64(root) + 64, "is too large"},
		{"name with a slash", func(b []byte) { b[file+128] = '/' }, int64(file) + 128, "is not a name"},
		{"more records than the image has", put32(file+96, 1<<30), int64(file), "chunk records end behind the image"},
		{"more bytes than chunks", put64(file+64, 1<<50), int64(file), "bytes in"},
		{"xattrs behind the image", func(b []byte) {
			put64(file+80, le.Uint64(b[file+80:])|4)(b)
			put64(records, 1<<40)(b)
		}, int64(file), "bytes of xattrs"},

		{"chunk of another place", put64(records+64, 4096), int64(file), "is for byte 4096 of the file"},
		{"chunk of another blob", put32(records+32, 77), int64(file), "names blob 77"},
		{"chunk's number", put32(records+72, 1<<24), int64(file), "is number 16777216 of the"},
		{"chunk too small", put32(records+44, 0), int64(file), "has 0 bytes, the file needs"},
		{"chunk too large", put32(records+44, 1<<31), int64(file), "uncompressed size is not within"},
		{"chunk behind the data", put64(records+56, 1<<50), int64(file), "uncompressed range ends behind the blob"},
		{"chunk stored behind the blob", put64(records+48, 1<<50), -1, "stored range"},
		{"chunk of no stored bytes", put32(records+40, 0), -1, "stored size 0"},
	})
}

// firstFile returns where the first regular file of a v5 image with data is,
// and its chunk records.
func firstFile(t *testing.T, b []byte) (inode, records int) {
	t.Helper()
	le := binary.LittleEndian
	table := int(le.Uint64(b[32:]))
	for i := range int(le.Uint32(b[56:])) {
		n := int(le.Uint32(b[table+4*i:])) << 3
		const withXattrs = 4
		if le.Uint32(b[n+60:])&image.TypeMask == image.TypeRegular && le.Uint32(b[n+96:]) > 0 && le.Uint64(b[n+80:])&withXattrs == 0 {
			return n, n + 128 + (int(le.Uint16(b[n+100:]))+7)&^7
		}
	}
	t.Fatal("no file with data")
	return 0, 0
}
