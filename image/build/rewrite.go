package build

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// rewriter makes an image whose files are those of another, with some chunks
// moved to a new blob.
type rewriter struct {
	b      *builder
	l      *loader
	reader *chunkReader
	w      *blobWriter
	moved  map[uint32]uint32 // new position by old
}

// rewrite loads tree, has change move chunks, and writes the new image.
func rewrite(ctx context.Context, tree image.Tree, blobs storage.Backend, out Output, opt *Options, features rafs.BlobFeatures, change func(*rewriter, *model) error) (*Result, error) {
	set, err := out.begin()
	if err != nil {
		return nil, err
	}
	defer set.abort()
	r, m, err := newRewriter(ctx, tree, blobs, set, opt)
	if err != nil {
		return nil, err
	}
	if err := change(r, m); err != nil {
		return nil, err
	}
	return r.finish(m, set, features)
}

// newRewriter loads tree. Of opt the level counts; what decides the form of
// chunks is taken from the image.
func newRewriter(ctx context.Context, tree image.Tree, blobs storage.Backend, out *outputSet, opt *Options) (*rewriter, *model, error) {
	info := tree.Info()
	m, err := infoModel(info)
	if err != nil {
		return nil, nil, err
	}
	if m.tarfs {
		return nil, nil, errors.New("the data of a tarfs image is the tar itself and can not be moved")
	}
	opt.Version, opt.ChunkSize, opt.Compressor, opt.Digester = m.version, info.ChunkSize, info.Compressor, info.Digester
	if opt.Compressor == storage.Gzip {
		opt.Compressor = storage.Zstd
	}
	opt.BatchSize, opt.InlineMeta, opt.TOC = 0, false, m.flags&rafs.InlinedChunkDigest != 0
	if err := opt.fill(); err != nil {
		return nil, nil, err
	}
	r := &rewriter{
		b:      &builder{opt: opt, out: out, tree: newTree(opt.Warn), store: newStore()},
		reader: newChunkReader(ctx, blobs), moved: map[uint32]uint32{},
	}
	if r.l, err = newLoader(tree, r.b.tree, r.b.store, 1, nil); err != nil {
		return nil, nil, err
	}
	r.l.keep = map[uint32]storage.Chunk{}
	if r.b.tree.root, err = r.l.root(); err != nil {
		return nil, nil, err
	}
	r.b.tree.finish()
	m.tree = r.b.tree
	m.prefetch = r.l.prefetch()
	return r, m, nil
}

// move stores the chunk at that position in the new blob and returns its new
// position.
func (r *rewriter) move(at uint32) (to uint32, err error) {
	if to, ok := r.moved[at]; ok {
		return to, nil
	}
	from := r.l.keep[at]
	err = r.reader.chunk(&from, func(plain []byte) error {
		to, err = r.store(at, &from, plain)
		return err
	})
	return to, err
}

// store stores the chunk from, at that position, with its contents.
func (r *rewriter) store(at uint32, from *storage.Chunk, plain []byte) (uint32, error) {
	if r.w == nil {
		var err error
		if r.w, err = newBlobWriter(r.b); err != nil {
			return 0, err
		}
	}
	c := chunk{
		digest: from.Digest.Sum, uncompSize: uint32(len(plain)), fileOff: r.b.store.chunks.at(at).fileOff, blob: r.w.blob.at,
	}
	if from.Flags&storage.HasDigest == 0 || from.Digest.Algorithm != r.b.opt.Digester {
		c.digest = r.w.coder.digest(plain)
	}
	comp, ok := r.w.coder.compress(make([]byte, 0, bound(len(plain))), plain)
	if !ok {
		comp = nil
	}
	if err := r.w.append(&c, plain, comp, false); err != nil {
		return 0, err
	}
	to := r.b.store.add(&c, false)
	r.moved[at] = to
	r.b.opt.Progress(int64(len(plain)))
	return to, nil
}

// finish writes the image: the new blob, if there is one, and the bootstrap.
func (r *rewriter) finish(m *model, set *outputSet, features rafs.BlobFeatures) (*Result, error) {
	var written []Blob
	if r.w != nil {
		r.w.blob.info.Features |= features
		if err := r.w.endData(); err != nil {
			return nil, err
		}
		b, err := r.w.end()
		if err != nil {
			return nil, err
		}
		written = append(written, b)
	}
	m.store = r.b.store
	m.useBlobs()
	res, err := m.write(set)
	if err != nil {
		return nil, err
	}
	res.Written = written
	return res, set.commit()
}

// Hot is a range of a file that is to be had first; Length 0 means to its
// end.
type Hot struct {
	Path           string
	Offset, Length int64
}

// Optimize writes an image with the same files, in which the chunks of the
// hot ranges lie in one new blob, in the order of the list, so that they are
// had by few large reads. The other chunks stay where they are. The hot files
// become the image's prefetch list.
func Optimize(ctx context.Context, tree image.Tree, blobs storage.Backend, hot []Hot, out Output, opt Options) (*Result, error) {
	return rewrite(ctx, tree, blobs, out, &opt, rafs.BlobPrefetchFiles, func(r *rewriter, m *model) error {
		m.prefetch = nil
		listed := map[*inode]bool{}
		for _, h := range hot {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n := m.tree.find(h.Path)
			if n == nil {
				opt.Warn(fmt.Sprintf("%s is not in the image", h.Path))
				continue
			}
			if !n.isRegular() || len(n.chunks()) == 0 {
				continue
			}
			if !listed[n] {
				listed[n] = true
				m.prefetch = append(m.prefetch, n)
			}
			if err := r.hot(n, h); err != nil {
				return &Error{Op: "read", Path: h.Path, Err: err}
			}
		}
		// A chunk that was moved is moved for all files that have it.
		return m.tree.walk(func(_ string, n *inode) error {
			list := n.chunks()
			for i, at := range list {
				if to, ok := r.moved[at]; ok {
					list[i] = to
				}
			}
			return nil
		})
	})
}

// hot moves the chunks of n that the range touches.
func (r *rewriter) hot(n *inode, h Hot) error {
	if h.Offset < 0 || h.Offset >= n.size {
		return nil
	}
	end := n.size
	if h.Length > 0 && h.Length <= n.size-h.Offset {
		end = h.Offset + h.Length
	}
	start := int64(0)
	for _, at := range n.chunks() {
		next := start + int64(r.b.opt.ChunkSize)
		if at != holeChunk && r.l.variable {
			next = start + int64(r.b.store.chunks.at(at).uncompSize)
		}
		if at != holeChunk && next > h.Offset && start < end {
			if _, err := r.move(at); err != nil {
				return err
			}
		}
		start = next
	}
	return nil
}

// CompactOptions say which blobs Compact writes anew.
type CompactOptions struct {
	// MinUsedRatio: a blob of which a smaller part than this is used by
	// files, 0 to 1, is given up. 0 means 0.5.
	MinUsedRatio float64
	// MaxSize: blobs with more stored bytes than this stay; 0 means no limit.
	MaxSize int64
}

// Compact writes an image with the same files that needs fewer stored bytes:
// what is used of blobs that are used little goes to one new blob.
func Compact(ctx context.Context, tree image.Tree, blobs storage.Backend, c CompactOptions, out Output, opt Options) (*Result, error) {
	if c.MinUsedRatio == 0 {
		c.MinUsedRatio = 0.5
	}
	return rewrite(ctx, tree, blobs, out, &opt, 0, func(r *rewriter, m *model) error {
		leave := r.littleUsed(m, &c)
		return m.tree.walk(func(path string, n *inode) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			list := n.chunks()
			for i, at := range list {
				if at == holeChunk || !leave[r.b.store.chunks.at(at).blob] {
					continue
				}
				to, err := r.move(at)
				if err != nil {
					return &Error{Op: "read", Path: path, Err: err}
				}
				list[i] = to
			}
			return nil
		})
	})
}

// littleUsed returns the blobs that are to be given up, by their positions in
// the store.
func (r *rewriter) littleUsed(m *model, c *CompactOptions) map[uint32]bool {
	used := map[uint32]int64{}
	seen := map[uint32]bool{}
	m.tree.walk(func(_ string, n *inode) error {
		for _, at := range n.chunks() {
			if at != holeChunk && !seen[at] {
				seen[at] = true
				used[r.b.store.chunks.at(at).blob] += int64(r.b.store.chunks.at(at).compSize)
			}
		}
		return nil
	})
	leave := map[uint32]bool{}
	for at, n := range used {
		b := r.b.store.blobs[at]
		whole := int64(b.dataSize)
		if b.info.Features&rafs.BlobBatch != 0 {
			whole = 0 // chunks in batches have no stored size of their own: such blobs stay
		}
		stays := c.MaxSize > 0 && int64(b.dataSize) > c.MaxSize
		leave[at] = whole > 0 && !stays && float64(n)/float64(whole) < c.MinUsedRatio
	}
	return leave
}
