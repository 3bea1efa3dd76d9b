package estargz

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

const format = "estargz"

// Layer is a layer of an image as the manifest has it.
type Layer struct {
	ID          string // hex SHA-256 of the stored bytes
	Size        int64  // stored bytes
	Annotations map[string]string

	// For a layer without a table of contents of its own, one of them:
	ZTOC []byte        // the zTOC that a SOCI index has of the layer; the tree's blob is called SOCIBlob
	Tar  io.ReadSeeker // the layer, uncompressed, as are ID and Size; only headers are read
}

// Annotations of layers that have a table of contents. Both spellings of the
// last two are in use.
const (
	annotationTOC = "containerd.io/snapshot/stargz/toc.digest"
	positionName  = "zstd-chunked.manifest-position"
	checksumName  = "zstd-chunked.manifest-checksum"
)

func chunkedAnnotation(l *Layer, name string) string {
	for _, prefix := range [...]string{"io.github.containers.", "io.containers."} {
		if v := l.Annotations[prefix+name]; v != "" {
			return v
		}
	}
	return ""
}

// Lazy reports whether all layers have a table of contents that the manifest
// has the digest of. It does no I/O.
func Lazy(layers []Layer) bool {
	for i := range layers {
		l := &layers[i]
		if l.Annotations[annotationTOC] == "" && (chunkedAnnotation(l, positionName) == "" || chunkedAnnotation(l, checksumName) == "") {
			return false
		}
	}
	return len(layers) > 0
}

// Bounds of a table of contents, in bytes.
const (
	maxStoredTOC = 64 << 20
	maxTOC       = 256 << 20
)

const (
	stargzFooter  = 51
	chunkedFooter = 40
	tocName       = "stargz.index.json"
)

// chunkedMagic ends the footer of stargz's form of zstd:chunked.
const chunkedMagic = "GnUlInUx"

// location is where a table of contents is.
type location struct {
	off, size  int64 // stored range
	compressor storage.Compressor
	stored     string // digest of the stored bytes, "" if it is of the uncompressed
	plain      string
}

// fetchTOC reads and verifies the table of contents of a layer, and says how
// its chunks are compressed and where they end.
func fetchTOC(ctx context.Context, b storage.Backend, l *Layer) (toc []byte, c storage.Compressor, end int64, err error) {
	at, err := locate(ctx, b, l)
	if err != nil {
		return nil, 0, 0, err
	}
	if at.off <= 0 || at.size <= 0 || at.size > maxStoredTOC || at.off > l.Size-at.size {
		return nil, 0, 0, bad("table of contents at %d+%d of a layer of %d bytes", at.off, at.size, l.Size)
	}
	stored := make([]byte, at.size)
	if err := b.ReadAt(ctx, l.ID, stored, at.off); err != nil {
		return nil, 0, 0, err
	}
	if at.stored != "" {
		if err := verify(stored, at.stored); err != nil {
			return nil, 0, 0, err
		}
	}
	if toc, err = decompressTOC(stored, at.compressor); err != nil {
		return nil, 0, 0, err
	}
	if at.stored == "" {
		err = verify(toc, at.plain)
	}
	return toc, at.compressor, at.off, err
}

func bad(what string, args ...any) error {
	return &image.FormatError{Format: format, Offset: -1, What: fmt.Sprintf(what, args...)}
}

func verify(b []byte, digest string) error {
	sum := sha256.Sum256(b)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
		return bad("table of contents has digest %s, the manifest says %s", got, digest)
	}
	return nil
}

// locate finds the table of contents by the annotations, and by the footer
// where these do not have its place.
func locate(ctx context.Context, b storage.Backend, l *Layer) (at location, err error) {
	if pos := chunkedAnnotation(l, positionName); pos != "" && chunkedAnnotation(l, checksumName) != "" {
		at = location{compressor: storage.Zstd, stored: chunkedAnnotation(l, checksumName)}
		f := strings.Split(pos, ":")
		if len(f) == 4 && f[3] == "1" {
			var err1, err2 error
			at.off, err1 = strconv.ParseInt(f[0], 10, 64)
			at.size, err2 = strconv.ParseInt(f[1], 10, 64)
			if err1 == nil && err2 == nil {
				return at, nil
			}
		}
		return at, bad("annotation %s is %q", positionName, pos)
	}
	at.plain = l.Annotations[annotationTOC]
	if at.plain == "" {
		return at, bad("the manifest has no digest of a table of contents")
	}
	if l.Size < stargzFooter {
		return at, bad("a layer of %d bytes is too short for a footer", l.Size)
	}
	footer := make([]byte, stargzFooter)
	if err := b.ReadAt(ctx, l.ID, footer, l.Size-stargzFooter); err != nil {
		return at, err
	}
	if chunked := footer[stargzFooter-chunkedFooter:]; string(chunked[32:]) == chunkedMagic {
		at.compressor, at.off, at.size = storage.Zstd, le64(chunked), le64(chunked[8:])
		return at, nil
	}
	at.compressor = storage.Gzip
	at.off, err = parseFooter(footer)
	at.size = l.Size - stargzFooter - at.off
	return at, err
}

// open puts a layer on top, whatever table it has.
func (m *merger) open(ctx context.Context, b storage.Backend, l *Layer) error {
	switch {
	case l.ZTOC != nil:
		return m.ztoc(l)
	case l.Tar != nil:
		return m.tar(ctx, l)
	}
	toc, c, end, err := fetchTOC(ctx, b, l)
	if err != nil {
		return err
	}
	entries, err := parseTOC(toc)
	if err != nil {
		return err
	}
	k := newChunker(l, len(m.blobs), c, end, entries)
	if err := m.layer(entries, k); err != nil {
		return err
	}
	k.finish()
	m.blobs = append(m.blobs, k.blob)
	return nil
}

func le64(b []byte) (v int64) {
	for i := range 8 {
		v |= int64(b[i]) << (8 * i)
	}
	return v
}

// parseFooter returns the place of the table of contents that the footer of
// eStargz has: an empty gzip member with it in its extra field.
func parseFooter(b []byte) (int64, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return 0, bad("footer: %v", err)
	}
	extra := z.Extra
	if len(extra) != 26 || string(extra[:2]) != "SG" || extra[2] != 22 || extra[3] != 0 || string(extra[20:]) != "STARGZ" {
		return 0, bad("footer is not that of eStargz")
	}
	off, err := strconv.ParseInt(string(extra[4:20]), 16, 64)
	if err != nil {
		return 0, bad("footer: place of the table of contents: %v", err)
	}
	return off, nil
}

func decompressTOC(stored []byte, c storage.Compressor) ([]byte, error) {
	if c == storage.Zstd {
		z, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return readTOC(z)
	}
	z, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, bad("table of contents: %v", err)
	}
	t := tar.NewReader(z)
	h, err := t.Next()
	if err != nil {
		return nil, bad("table of contents: %v", err)
	}
	if h.Name != tocName {
		return nil, bad("the table of contents is called %q", h.Name)
	}
	return readTOC(t)
}

func readTOC(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxTOC+1))
	if err != nil {
		return nil, bad("table of contents: %v", err)
	}
	if len(b) > maxTOC {
		return nil, bad("table of contents of more than %d bytes", maxTOC)
	}
	return b, nil
}

// Open fetches the tables of contents of the layers, the lowest first, and
// merges them. b reads the layers by their ids, now and later.
func Open(ctx context.Context, b storage.Backend, layers []Layer) (image.Tree, error) {
	m := newMerger()
	for i := range layers {
		l := &layers[i]
		if len(l.ID) < 64 || l.Size < 0 {
			return nil, bad("layer %q of %d bytes", l.ID, l.Size)
		}
		if err := m.open(ctx, b, l); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.ID, err)
		}
	}
	if len(layers) == 0 {
		return nil, errors.New("an image without layers")
	}
	return m.tree(), nil
}
