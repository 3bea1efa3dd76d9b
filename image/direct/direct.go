// Package direct reads the bytes of images straight from where blobs are
// stored, without a cache: what checking and unpacking need, which read each
// chunk about once.
package direct

import (
	"context"
	"fmt"
	"io"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// Reader is a [storage.Reader] over a backend that keeps the last chunk, or
// the last group of chunks, in memory. It is not safe for concurrent use.
type Reader struct {
	b      storage.Backend
	stored []byte
	group  *storage.Group // whose contents whole is
	whole  []byte
	blob   *storage.Blob // of chunk
	index  uint32
	chunk  []byte
}

var _ storage.Reader = (*Reader)(nil)

// NewReader returns a reader of what b stores. With a nil b there are holes to
// read and nothing else.
func NewReader(b storage.Backend) *Reader { return &Reader{b: b} }

// maxStored bounds the stored bytes read at once.
const maxStored = 256 << 20

// grow returns b with n bytes.
func grow(b []byte, n uint32) []byte {
	if uint32(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// Chunk returns the verified contents of ch, valid until the next call.
func (r *Reader) Chunk(ctx context.Context, ch *storage.Chunk) ([]byte, error) {
	if r.blob == ch.Blob && r.index == ch.Index && len(r.chunk) == int(ch.UncompressedSize) {
		return r.chunk, nil
	}
	r.blob = nil
	if ch.UncompressedSize > codec.MaxSize {
		return nil, fmt.Errorf("blob %s chunk %d: %d bytes are too many", ch.Blob.ID, ch.Index, ch.UncompressedSize)
	}
	r.chunk = grow(r.chunk, ch.UncompressedSize)
	if err := r.decode(ctx, ch); err != nil {
		return nil, fmt.Errorf("blob %s chunk %d: %w", ch.Blob.ID, ch.Index, err)
	}
	if err := codec.Verify(r.chunk, ch); err != nil {
		return nil, fmt.Errorf("blob %s chunk %d: %w", ch.Blob.ID, ch.Index, err)
	}
	r.blob, r.index = ch.Blob, ch.Index
	return r.chunk, nil
}

func (r *Reader) decode(ctx context.Context, ch *storage.Chunk) error {
	g := ch.Group
	if g == nil {
		if err := r.fetch(ctx, ch, ch.Offset, ch.Size); err != nil {
			return err
		}
		return codec.Decode(r.chunk, r.stored, ch)
	}
	if r.group != g {
		r.group = nil
		if g.UncompressedSize > maxStored {
			return fmt.Errorf("group of %d bytes is too large", g.UncompressedSize)
		}
		if err := r.fetch(ctx, ch, g.Offset, g.Size); err != nil {
			return err
		}
		r.whole = grow(r.whole, g.UncompressedSize)
		if err := codec.DecodeGroup(r.whole, r.stored, ch); err != nil {
			return err
		}
		r.group = g
	}
	return codec.FromGroup(r.chunk, r.whole, ch)
}

func (r *Reader) fetch(ctx context.Context, ch *storage.Chunk, off int64, n uint32) error {
	if n > maxStored {
		return fmt.Errorf("%d stored bytes are too many", n)
	}
	if r.b == nil {
		return fmt.Errorf("blob %s is not at hand", ch.Blob.ID)
	}
	r.stored = grow(r.stored, n)
	return r.b.ReadAt(ctx, ch.Blob.ID, r.stored, off)
}

// ReadExtents fills p with the bytes of ext.
func (r *Reader) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	for i := range ext {
		e := &ext[i]
		n := min(int64(len(p)), e.Length)
		if e.Hole() {
			clear(p[:n])
		} else if n > 0 {
			b, err := r.Chunk(ctx, &e.Chunk)
			if err != nil {
				return err
			}
			if int64(e.ChunkOffset)+n > int64(len(b)) {
				return fmt.Errorf("blob %s chunk %d: extent ends behind the chunk", e.Chunk.Blob.ID, e.Chunk.Index)
			}
			copy(p[:n], b[e.ChunkOffset:])
		}
		p = p[n:]
	}
	if len(p) > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// step is how much of a file is looked at a time, in bytes.
const step = 8 << 20

// Pieces calls f for the bytes of the regular file nid in order, of size
// bytes in all; nil bytes stand for n zeros. The bytes are valid during the
// call. It ends at the first error.
func (r *Reader) Pieces(ctx context.Context, t image.Tree, nid uint64, size int64, f func(p []byte, n int64) error) error {
	var ext []storage.Extent
	var buf []byte
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if buf == nil {
			buf = make([]byte, min(size, 1<<16))
		}
		n, inline, err := t.Inline(buf, nid, off)
		if err != nil {
			return err
		}
		if inline {
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			if err := f(buf[:n], int64(n)); err != nil {
				return err
			}
			off += int64(n)
			continue
		}
		ext, err = t.Extents(ext[:0], nid, off, step)
		if err != nil {
			return err
		}
		if len(ext) == 0 {
			return io.ErrUnexpectedEOF
		}
		for i := range ext {
			if err := r.piece(ctx, &ext[i], f); err != nil {
				return err
			}
			off += ext[i].Length
		}
	}
	return nil
}

func (r *Reader) piece(ctx context.Context, e *storage.Extent, f func(p []byte, n int64) error) error {
	if e.Hole() {
		return f(nil, e.Length)
	}
	b, err := r.Chunk(ctx, &e.Chunk)
	if err != nil {
		return err
	}
	if int64(e.ChunkOffset)+e.Length > int64(len(b)) {
		return fmt.Errorf("blob %s chunk %d: extent ends behind the chunk", e.Chunk.Blob.ID, e.Chunk.Index)
	}
	return f(b[e.ChunkOffset:][:e.Length], e.Length)
}

// Copy writes the regular file nid, of size bytes, to w; holes as zeros.
func (r *Reader) Copy(ctx context.Context, w io.Writer, t image.Tree, nid uint64, size int64) error {
	return r.Pieces(ctx, t, nid, size, func(p []byte, n int64) error {
		if p != nil {
			_, err := w.Write(p)
			return err
		}
		_, err := io.CopyN(w, zeros{}, n)
		return err
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
