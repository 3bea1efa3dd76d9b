package build

import (
	"context"
	"fmt"
	"sync"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/storage"
)

// chunkReader reads an image's data from where its blobs are. It is safe for
// concurrent use.
type chunkReader struct {
	ctx     context.Context // of one build
	readers sync.Pool       // of *direct.Reader
}

func newChunkReader(ctx context.Context, b storage.Backend) *chunkReader {
	return &chunkReader{ctx: ctx, readers: sync.Pool{New: func() any { return direct.NewReader(b) }}}
}

// chunk calls f with the verified contents of c, which are valid during the
// call.
func (r *chunkReader) chunk(c *storage.Chunk, f func(p []byte) error) error {
	d := r.readers.Get().(*direct.Reader)
	defer r.readers.Put(d)
	p, err := d.Chunk(r.ctx, c)
	if err != nil {
		return err
	}
	return f(p)
}

// extents fills p with the bytes of ext.
func (r *chunkReader) extents(p []byte, ext []storage.Extent) error {
	d := r.readers.Get().(*direct.Reader)
	defer r.readers.Put(d)
	return d.ReadExtents(r.ctx, p, ext)
}

// Image returns a source that is an image: its files are read and chunked
// anew. Blobs come from the backend, which may be nil for an image without.
func Image(tree image.Tree, blobs storage.Backend) Source { return imageSource{tree, blobs} }

type imageSource struct {
	tree    image.Tree
	backend storage.Backend
}

func (s imageSource) load(ctx context.Context, b *builder) error {
	if b.opt.inPlace() {
		return errNotTar
	}
	b.beginLayer()
	l := &loader{
		src: s.tree, tree: b.tree, store: b.store, layer: b.layer, links: map[uint64]*inode{}, dirs: map[uint64]*inode{},
	}
	var files []imageFile
	reader := newChunkReader(ctx, s.backend)
	total := int64(0)
	l.file = func(n *inode, nid uint64, path string) error {
		files = append(files, imageFile{n, nid, path, s.tree, reader})
		total += n.size
		return nil
	}
	root, err := l.root()
	if err != nil {
		return err
	}
	b.tree.root = root
	b.tree.finish() // from here on the names have an order
	b.opt.Total(total)
	seen := map[*inode]bool{}
	byNode := make(map[*inode]*imageFile, len(files))
	for i := range files {
		byNode[files[i].node] = &files[i]
	}
	err = b.tree.walk(func(_ string, n *inode) error {
		f := byNode[n]
		if f == nil || seen[n] || n.size == 0 {
			return nil
		}
		seen[n] = true
		data, err := f.spans()
		if err != nil {
			return err
		}
		return b.file(n, f, data, f.path)
	})
	if err != nil {
		return err
	}
	return b.endLayer()
}

// imageFile is a regular file of an image as a source.
type imageFile struct {
	node   *inode
	nid    uint64
	path   string
	tree   image.Tree
	reader *chunkReader
}

func (f *imageFile) fail(err error) error { return &Error{Op: "read", Path: f.path, Err: err} }

// spans returns the ranges of the file that are not holes.
func (f *imageFile) spans() ([]span, error) {
	if _, inline, err := f.tree.Inline(nil, f.nid, 0); err != nil || inline {
		return []span{{0, f.node.size}}, err
	}
	ext, err := f.tree.Extents(nil, f.nid, 0, f.node.size)
	if err != nil {
		return nil, f.fail(err)
	}
	var out []span
	for i := range ext {
		e := &ext[i]
		switch end := e.FileOffset + e.Length; {
		case e.Hole():
		case len(out) > 0 && out[len(out)-1].end == e.FileOffset:
			out[len(out)-1].end = end
		default:
			out = append(out, span{e.FileOffset, end})
		}
	}
	return out, nil
}

func (f *imageFile) fill(p []byte, off int64) error {
	if n, inline, err := f.tree.Inline(p, f.nid, off); err != nil {
		return f.fail(err)
	} else if inline {
		if n != len(p) {
			return f.fail(fmt.Errorf("%d bytes at %d, want %d", n, off, len(p)))
		}
		return nil
	}
	ext, err := f.tree.Extents(nil, f.nid, off, int64(len(p)))
	if err != nil {
		return f.fail(err)
	}
	if err := f.reader.extents(p, ext); err != nil {
		return f.fail(err)
	}
	return nil
}
