// Package localdisk has blobs in the partitions of a disk, or of a file that
// is like one: each partition of a GUID partition table is a blob, named by
// it. It reads what nydusd's localdisk backend reads.
package localdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sluicefs/sluice/storage/backend"
)

// Backend reads blobs from a disk. Its methods are safe for concurrent use.
type Backend struct {
	f     *os.File
	parts map[string]partition
	whole *partition // with Raw: every name is the whole disk
}

// Options of Open.
type Options struct {
	Raw bool // no partition table: the disk as a whole is the only blob
}

// Open opens the disk at path and reads its partition table. A disk without
// one, unless Options.Raw is set, is an error for which
// errors.Is(err, ErrNoTable) holds.
func Open(path string, o Options) (*Backend, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b := &Backend{f: f, parts: make(map[string]partition)}
	if err := b.load(o); err != nil {
		f.Close()
		return nil, fmt.Errorf("localdisk %s: %w", path, err)
	}
	return b, nil
}

func (b *Backend) load(o Options) error {
	size, err := b.f.Seek(0, io.SeekEnd) // Stat says 0 for a block device
	if err != nil {
		return err
	}
	if o.Raw {
		b.whole = &partition{size: size}
		return nil
	}
	parts, err := parseGPT(b.f, size)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, dup := b.parts[p.blob]; dup {
			return fmt.Errorf("two partitions called %.80q", p.blob)
		}
		b.parts[p.blob] = p
	}
	return nil
}

func (b *Backend) find(op, blob string) (partition, error) {
	if b.whole != nil {
		return *b.whole, nil
	}
	p, ok := b.parts[blob]
	if !ok {
		return p, &backend.Error{Op: op, Where: b.f.Name(), Blob: blob, Final: true, Err: fs.ErrNotExist}
	}
	return p, nil
}

// ReadAt fills p with the bytes of the partition from off on.
func (b *Backend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := backend.CheckRead(b.f.Name(), blob, off, len(p)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	part, err := b.find("read", blob)
	if err != nil {
		return err
	}
	room := max(0, part.size-off)
	n, err := b.f.ReadAt(p[:min(int64(len(p)), room)], part.off+off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &backend.Error{Op: "read", Where: b.f.Name(), Blob: blob, Done: n, Final: err == io.ErrUnexpectedEOF, Err: err}
}

// Size returns the size of the partition: a multiple of the sector's, so at
// least that of the blob.
func (b *Backend) Size(_ context.Context, blob string) (int64, error) {
	if err := backend.CheckRead(b.f.Name(), blob, 0, 0); err != nil {
		return 0, err
	}
	p, err := b.find("size", blob)
	return p.size, err
}

// Close closes the disk.
func (b *Backend) Close() error { return b.f.Close() }
