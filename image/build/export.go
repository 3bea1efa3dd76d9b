package build

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// flatSize is the bytes of data behind the metadata of a plain EROFS file.
func (m *model) flatSize() uint64 { return m.flatBlocks * blobAlign }

// ExportOptions are the settings of [Export].
type ExportOptions struct {
	Parallel int // workers; 0 means one for each CPU
	Verity   bool
	Progress func(bytes int64)
	Total    func(bytes int64)

	volatile bool // as that of Output
}

// ExportResult says what Export has written.
type ExportResult struct {
	Size     int64 // of the file, without the hash tree
	DataSize int64 // bytes of it that are file data
	Verity   *Verity
}

// Export writes the image as one plain EROFS file to path: metadata and the
// uncompressed data, each chunk once, mountable without any other file. Holes
// stay holes. With Verity a dm-verity hash tree is appended.
func Export(ctx context.Context, tree image.Tree, blobs storage.Backend, path string, o ExportOptions) (*ExportResult, error) {
	m := &model{version: 6, plain: true, chunkSize: tree.Info().ChunkSize, tree: newTree(func(string) {})}
	m.variable = variableChunks(tree.Info())
	if m.chunkSize == 0 {
		return nil, fmt.Errorf("a %s image without chunks can not be exported: convert it first", tree.Info().Format)
	}
	s := newStore()
	l, err := newLoader(tree, m.tree, s, 1, nil)
	if err != nil {
		return nil, err
	}
	l.keep = map[uint32]storage.Chunk{}
	if m.tree.root, err = l.root(); err != nil {
		return nil, err
	}
	m.store = s
	m.tree.finish()
	order := m.flatten(l.keep)
	boot, err := encodeV6(m)
	if err != nil {
		return nil, err
	}
	set, err := Output{Bootstrap: path, volatile: o.volatile}.begin()
	if err != nil {
		return nil, err
	}
	defer set.abort()
	f, err := set.create(path)
	if err != nil {
		return nil, err
	}
	if f.pipe {
		return nil, &Error{Op: "write", Path: path, Err: fmt.Errorf("is not a regular file")}
	}
	if err := boot.writeTo(f); err != nil {
		return nil, err
	}
	if err := f.Flush(); err != nil {
		return nil, &Error{Op: "write", Path: path, Err: bare(err)}
	}
	size := boot.bytes() + int64(m.flatSize())
	if err := f.f.Truncate(size); err != nil {
		return nil, &Error{Op: "write", Path: path, Err: bare(err)}
	}
	if err := writeChunks(ctx, f.f, boot.bytes(), m, order, l.keep, blobs, &o); err != nil {
		return nil, err
	}
	res := &ExportResult{Size: size, DataSize: int64(m.flatSize())}
	if o.Verity {
		if res.Verity, err = appendVerity(f.f, size); err != nil {
			return nil, &Error{Op: "write", Path: path, Err: bare(err)}
		}
	}
	return res, set.commit()
}

// flatten gives every chunk that a file has its place in the data, in the
// order of the files, and returns the chunks in that order. Chunks of zeros
// get no place: they become holes.
func (m *model) flatten(chunks map[uint32]storage.Chunk) (order []uint32) {
	m.flat = make([]uint64, m.store.chunks.len())
	zeros := map[zeroKey][32]byte{}
	m.tree.walk(func(_ string, n *inode) error {
		list := n.chunks()
		for i, at := range list {
			if at == holeChunk {
				continue
			}
			from := chunks[at]
			if isZeros(&from, zeros) {
				list[i] = holeChunk
				continue
			}
			if m.flat[at] == 0 {
				m.flat[at] = m.flatBlocks + 1
				m.flatBlocks += (uint64(m.store.chunks.at(at).uncompSize) + blobAlign - 1) / blobAlign
				order = append(order, at)
			}
		}
		return nil
	})
	return order
}

// zeroKey is what the digest of a run of zeros depends on.
type zeroKey struct {
	size      uint32
	algorithm storage.Algorithm
}

// isZeros reports whether c is all zeros, by its digest; known keeps the
// digests.
func isZeros(c *storage.Chunk, known map[zeroKey][32]byte) bool {
	if c.Flags&storage.HasDigest == 0 {
		return false
	}
	key := zeroKey{c.UncompressedSize, c.Digest.Algorithm}
	sum, ok := known[key]
	if !ok {
		sum = digestOf(key.algorithm, make([]byte, key.size))
		known[key] = sum
	}
	return sum == c.Digest.Sum
}

// writeChunks writes the contents of the chunks to f, whose data begins at
// base.
func writeChunks(ctx context.Context, f *os.File, base int64, m *model, order []uint32, chunks map[uint32]storage.Chunk, blobs storage.Backend, o *ExportOptions) error {
	total := int64(0)
	for _, at := range order {
		total += int64(m.store.chunks.at(at).uncompSize)
	}
	if o.Total != nil {
		o.Total(total)
	}
	workers := o.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	r := newChunkReader(ctx, blobs)
	done := make(chan int64, workers)
	var told errgroup.Group
	told.Go(func() error {
		for n := range done {
			if o.Progress != nil {
				o.Progress(n)
			}
		}
		return nil
	})
	for _, at := range order {
		if ctx.Err() != nil {
			break
		}
		c := chunks[at]
		g.Go(func() error {
			return r.chunk(&c, func(p []byte) error {
				if _, err := f.WriteAt(p, base+int64(m.flat[at]-1)*blobAlign); err != nil {
					return &Error{Op: "write", Path: f.Name(), Err: bare(err)}
				}
				done <- int64(len(p))
				return nil
			})
		})
	}
	err := g.Wait()
	close(done)
	told.Wait()
	return err
}
