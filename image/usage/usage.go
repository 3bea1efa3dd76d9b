// Package usage says how much an image holds and how much of it is stored:
// what deduplication, compression and chunk sharing between images save.
package usage

import (
	"context"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Blob is the use that an image makes of one blob.
type Blob struct {
	ID           string `json:"id"`
	Compressor   string `json:"compressor"`
	Size         int64  `json:"size"`              // bytes stored, 0 if the image does not say
	Chunks       uint64 `json:"chunks"`            // in the blob
	UsedChunks   uint64 `json:"used_chunks"`       // that files of the image have
	UsedStored   uint64 `json:"used_stored"`       // their stored bytes
	Uncompressed uint64 `json:"used_uncompressed"` // their uncompressed bytes
}

// Report is the result of a count.
type Report struct {
	Format       string `json:"format"`
	Entries      uint64 `json:"entries"` // names, the root included
	Inodes       uint64 `json:"inodes"`
	Directories  uint64 `json:"directories"`
	Files        uint64 `json:"files"` // regular files, hard links counted once
	Symlinks     uint64 `json:"symlinks"`
	FileBytes    uint64 `json:"file_bytes"` // of regular files, hard links counted once
	Metadata     int64  `json:"metadata_bytes"`
	Inline       uint64 `json:"inline_bytes"`       // of files whose data is in the image itself
	Holes        uint64 `json:"hole_bytes"`         // that are not stored
	References   uint64 `json:"chunk_references"`   // places in files that are chunks
	Referenced   uint64 `json:"referenced_bytes"`   // their bytes, uncompressed
	Chunks       uint64 `json:"chunks"`             // different ones among them
	Uncompressed uint64 `json:"uncompressed_bytes"` // of these
	Stored       uint64 `json:"stored_bytes"`       // of these
	Shared       uint64 `json:"shared_chunks"`      // that the base has as well, by digest
	SharedStored uint64 `json:"shared_stored_bytes"`
	Blobs        []Blob `json:"blobs"`
}

// DedupRatio is the share of the referenced bytes that need not be stored
// because an equal chunk is, from 0 to 1.
func (r *Report) DedupRatio() float64 { return saved(r.Uncompressed, r.Referenced) }

// CompressRatio is the share of the bytes of different chunks that
// compression saves.
func (r *Report) CompressRatio() float64 { return saved(r.Stored, r.Uncompressed) }

func saved(part, whole uint64) float64 {
	if whole == 0 || part > whole {
		return 0
	}
	return 1 - float64(part)/float64(whole)
}

// Count looks at all files of t. Chunks that base has as well, by their
// digest, count as shared; base may be nil.
func Count(ctx context.Context, t, base image.Tree) (*Report, error) {
	c := newCounter(t)
	if base != nil {
		c.base = map[storage.Digest]bool{}
		err := newCounter(base).walk(ctx, func(ch *storage.Chunk) { c.base[ch.Digest] = true })
		if err != nil {
			return nil, err
		}
	}
	return c.r, c.walk(ctx, c.chunk)
}

type key struct {
	blob  int
	index uint32
}

type counter struct {
	t      image.Tree
	r      *Report
	inodes map[uint64]bool
	chunks map[key]bool
	groups map[*storage.Group]bool
	base   map[storage.Digest]bool
	ext    []storage.Extent
}

func newCounter(t image.Tree) *counter {
	info := t.Info()
	c := &counter{
		t: t, inodes: map[uint64]bool{}, chunks: map[key]bool{}, groups: map[*storage.Group]bool{},
		r: &Report{Format: info.Format, Metadata: info.Size},
	}
	for _, b := range t.Blobs() {
		c.r.Blobs = append(c.r.Blobs, Blob{ID: b.ID, Compressor: b.Compressor.String(), Size: b.Size, Chunks: uint64(b.ChunkCount)})
	}
	return c
}

// walk counts all entries and calls f for each different chunk.
func (c *counter) walk(ctx context.Context, f func(*storage.Chunk)) error {
	var failed error
	err := image.Walk(c.t, func(_ string, nid uint64, _ uint8) bool {
		failed = c.entry(nid, f)
		if failed == nil {
			failed = ctx.Err()
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (c *counter) entry(nid uint64, f func(*storage.Chunk)) error {
	c.r.Entries++
	if c.inodes[nid] {
		return nil
	}
	c.inodes[nid] = true
	c.r.Inodes++
	var in image.Inode
	if err := c.t.Stat(nid, &in); err != nil {
		return err
	}
	switch in.Mode & image.TypeMask {
	case image.TypeDirectory:
		c.r.Directories++
	case image.TypeSymlink:
		c.r.Symlinks++
	case image.TypeRegular:
		c.r.Files++
		c.r.FileBytes += in.Size
		return c.file(&in, f)
	}
	return nil
}

func (c *counter) file(in *image.Inode, f func(*storage.Chunk)) error {
	_, inline, err := c.t.Inline(nil, in.NID, 0)
	if err != nil {
		return err
	}
	if inline {
		c.r.Inline += in.Size
		return nil
	}
	for off := int64(0); off < int64(in.Size); {
		c.ext, err = c.t.Extents(c.ext[:0], in.NID, off, 64<<20)
		if err != nil {
			return err
		}
		if len(c.ext) == 0 {
			return &image.FormatError{Format: c.r.Format, Offset: -1, What: "a file has no extents"}
		}
		for i := range c.ext {
			e := &c.ext[i]
			off += e.Length
			if e.Hole() {
				c.r.Holes += uint64(e.Length)
				continue
			}
			c.r.References++
			c.r.Referenced += uint64(e.Length)
			if k := (key{e.Chunk.Blob.Index, e.Chunk.Index}); !c.chunks[k] {
				c.chunks[k] = true
				f(&e.Chunk)
			}
		}
	}
	return nil
}

// chunk counts a chunk that has not been met yet.
func (c *counter) chunk(ch *storage.Chunk) {
	stored := uint64(ch.Size)
	if g := ch.Group; g != nil {
		stored = 0 // the group's bytes count once
		if !c.groups[g] {
			c.groups[g] = true
			stored = uint64(g.Size)
		}
	}
	c.r.Chunks++
	c.r.Uncompressed += uint64(ch.UncompressedSize)
	c.r.Stored += stored
	b := &c.r.Blobs[ch.Blob.Index]
	b.UsedChunks++
	b.UsedStored += stored
	b.Uncompressed += uint64(ch.UncompressedSize)
	if c.base != nil && ch.Flags&storage.HasDigest != 0 && c.base[ch.Digest] {
		c.r.Shared++
		c.r.SharedStored += stored
	}
}
