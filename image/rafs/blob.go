package rafs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// Names of the sections of a blob, as in their tar headers and in the table
// of contents.
const (
	SectionData       = "image.blob"
	SectionMeta       = "blob.meta"
	SectionMetaHeader = "blob.meta.header"
	SectionDigest     = "blob.digest"
	SectionBootstrap  = "image.boot"
	SectionTOC        = "rafs.blob.toc"
)

// maxTOC bounds a table of contents, in bytes; there are five sections.
const maxTOC = 64 * TOCEntrySize

// ErrNoSection says that a blob does not have the section asked for.
var ErrNoSection = errors.New("the blob has no such section")

// TailHeader decodes the tar header that ends a section: in a blob it stands
// behind what it describes. It returns the section's name and size in bytes.
func TailHeader(b []byte) (name string, size int64, err error) {
	if len(b) != tarBlockSize || !bytes.Equal(b[257:263], []byte("ustar ")) && !bytes.Equal(b[257:263], []byte("ustar\x00")) {
		return "", 0, errors.New("no tar header")
	}
	sum := int64(0)
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	if want, err := octal(b[148:156]); err != nil || want != sum {
		return "", 0, errors.New("tar header with a wrong checksum")
	}
	size, err = octal(b[124:136])
	if err != nil {
		return "", 0, fmt.Errorf("size in a tar header: %w", err)
	}
	return cString(b[:100]), size, nil
}

func octal(b []byte) (int64, error) {
	v, err := strconv.ParseUint(strings.Trim(string(b), " \x00"), 8, 62)
	return int64(v), err
}

// ReadTOC reads the table of contents at the end of a blob of size bytes.
// digest is what the bootstrap says of it, zeros if it says nothing. A blob
// without one gives [ErrNoSection].
func ReadTOC(r io.ReaderAt, size int64, digest [32]byte) ([]TOCEntry, error) {
	header, name, n, err := readTail(r, size)
	if err != nil {
		return nil, err
	}
	if name != SectionTOC {
		return nil, ErrNoSection
	}
	if n > maxTOC || n%TOCEntrySize != 0 || n > size-tarBlockSize {
		return nil, fmt.Errorf("table of contents of %d bytes", n)
	}
	b := make([]byte, n, n+tarBlockSize)
	if _, err := r.ReadAt(b, size-tarBlockSize-n); err != nil {
		return nil, err
	}
	if digest != [32]byte{} && sha256.Sum256(append(b, header...)) != digest {
		return nil, errors.New("table of contents has not the digest that the image says")
	}
	var entries []TOCEntry
	for ; len(b) > 0; b = b[TOCEntrySize:] {
		e, _ := ParseTOCEntry(b)
		entries = append(entries, e)
	}
	return entries, nil
}

// readTail reads the tar header that ends a blob.
func readTail(r io.ReaderAt, size int64) (header []byte, name string, n int64, err error) {
	if size < tarBlockSize {
		return nil, "", 0, ErrNoSection
	}
	header = make([]byte, tarBlockSize)
	if _, err := r.ReadAt(header, size-tarBlockSize); err != nil {
		return nil, "", 0, err
	}
	name, n, err = TailHeader(header)
	if err != nil {
		return nil, "", 0, ErrNoSection
	}
	return header, name, n, nil
}

// section returns the entry called name.
func section(toc []TOCEntry, name string) (*TOCEntry, error) {
	for i := range toc {
		if toc[i].Name == name {
			return &toc[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNoSection)
}

// readSection maps the uncompressed contents of a section and verifies its
// digest, if it has one.
func readSection(r io.ReaderAt, size int64, e *TOCEntry, limit uint64) (*mmap.Map, error) {
	if e.CompressedOffset > uint64(size) || e.CompressedSize > uint64(size)-e.CompressedOffset {
		return nil, fmt.Errorf("section %s: ends behind the blob", e.Name)
	}
	var c storage.Compressor
	switch e.Flags & 0xf {
	case TOCNone:
	case TOCZstd:
		c = storage.Zstd
	case TOCLZ4:
		c = storage.LZ4Block
	default:
		return nil, fmt.Errorf("section %s: compression %#x is not known", e.Name, e.Flags)
	}
	in := io.NewSectionReader(r, int64(e.CompressedOffset), int64(e.CompressedSize))
	m, err := decompress(in, c, e.UncompressedSize, limit)
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", e.Name, err)
	}
	if e.Digest != [32]byte{} && sha256.Sum256(m.Bytes()) != e.Digest {
		m.Close()
		return nil, fmt.Errorf("section %s: %w", e.Name, codec.ErrMismatch)
	}
	return m, nil
}

// decompress maps size bytes that r holds compressed; they are not on the
// heap, and memory is taken up only by what really comes out.
func decompress(r *io.SectionReader, c storage.Compressor, size, limit uint64) (m *mmap.Map, err error) {
	if size == 0 || size > limit {
		return nil, fmt.Errorf("uncompressed size %d is not from 1 to %d", size, limit)
	}
	m, err = mmap.Anonymous(int(size))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	switch c {
	case storage.None:
		return m, fill(m.Bytes(), r)
	case storage.Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return m, fill(m.Bytes(), z)
	}
	stored := make([]byte, r.Size())
	if _, err := io.ReadFull(r, stored); err != nil {
		return nil, err
	}
	return m, codec.Decompress(m.Bytes(), stored, c)
}

// fill reads all of p from r, which has to end there.
func fill(p []byte, r io.Reader) error {
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return codec.ErrSize
	}
	return nil
}

// Bootstrap maps the bootstrap that lies inside a blob of size bytes. A blob
// without one gives [ErrNoSection].
func Bootstrap(r io.ReaderAt, size int64) (*mmap.Map, error) {
	toc, err := ReadTOC(r, size, [32]byte{})
	if errors.Is(err, ErrNoSection) {
		return rawBootstrap(r, size)
	}
	if err != nil {
		return nil, err
	}
	e, err := section(toc, SectionBootstrap)
	if err != nil {
		return nil, err
	}
	return readSection(r, size, e, maxBootstrapLen)
}

// rawBootstrap maps the bootstrap of a blob without a table of contents: it
// stands as it is before its tar header, which ends the blob.
func rawBootstrap(r io.ReaderAt, size int64) (*mmap.Map, error) {
	_, name, n, err := readTail(r, size)
	if err != nil {
		return nil, err
	}
	if name != SectionBootstrap {
		return nil, ErrNoSection
	}
	e := TOCEntry{Flags: TOCNone, Name: name, CompressedOffset: uint64(size - tarBlockSize - n), CompressedSize: uint64(n), UncompressedSize: uint64(n)}
	return readSection(r, size, &e, maxBootstrapLen)
}
