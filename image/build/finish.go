package build

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// beginLayer begins the next layer of the source.
func (b *builder) beginLayer() { b.layer++ }

// endLayer waits until the data of the layer is written. The layer's blob, if
// it has data, is complete but for its metadata.
func (b *builder) endLayer() error {
	if err := b.drain(); err != nil {
		return err
	}
	b.writer = nil
	b.joinCuts()
	return nil
}

// prefetched marks the end of the data that is to be fetched first.
func (b *builder) prefetched() error {
	if err := b.drain(); err != nil {
		return err
	}
	if b.writer != nil {
		b.lead = uint64(b.writer.file.off)
	}
	return nil
}

// finish ends the pipeline and writes what describes the data.
func (b *builder) finish() (*Result, error) {
	if err := b.stop(); err != nil {
		return nil, err
	}
	// The metadata needs the memory more than the data, which is written.
	b.free, b.window, b.store.byDigest, b.store.loaded = nil, nil, digestIndex{}, nil
	o := b.opt
	if o.BlobID != "" && len(b.layers) > 1 {
		return nil, fmt.Errorf("one blob id for %d blobs", len(b.layers))
	}
	if o.InlineMeta && (o.Parent != nil || len(b.layers) > 1) {
		return nil, fmt.Errorf("the bootstrap of several layers can not lie in the blob of one")
	}
	if o.InlineMeta && len(b.layers) == 0 {
		w, err := newBlobWriter(b)
		if err != nil {
			return nil, err
		}
		b.layers = append(b.layers, w)
	}
	res := &Result{
		Version: o.Version, Chunks: b.stats.chunks, DedupChunks: b.stats.dedup, DedupSize: b.stats.dedupSize,
	}
	res.Written = append(res.Written, b.tars...)
	if b.targz != nil {
		if err := b.targz.writeIndex(b, res); err != nil {
			return nil, err
		}
	}
	for _, w := range b.layers {
		if err := w.endData(); err != nil {
			return nil, err
		}
		if o.Prefetch == PrefetchBlob {
			w.blob.prefetch = b.lead
		}
		if !o.InlineMeta {
			if err := b.endBlob(w, res); err != nil {
				return nil, err
			}
		} else {
			w.blob.id = inlinedID
		}
	}
	m, err := b.model()
	if err != nil {
		return nil, err
	}
	bootstrap, err := m.encode()
	if err != nil {
		return nil, err
	}
	res.BootstrapSize = bootstrap.bytes()
	if o.InlineMeta {
		if err := b.layers[0].inline(bootstrap); err != nil {
			return nil, err
		}
		if err := b.endBlob(b.layers[0], res); err != nil {
			return nil, err
		}
		// Outside the blob the bootstrap can say what the blob is called.
		b.layers[0].settle(&res.Written[0])
		if bootstrap, err = m.encode(); err != nil {
			return nil, err
		}
	}
	for _, bl := range m.blobs {
		res.Blobs = append(res.Blobs, bl.id)
	}
	if b.out.Bootstrap != "" {
		f, err := b.out.create(b.out.Bootstrap)
		if err != nil {
			return nil, err
		}
		if err := bootstrap.writeTo(f); err != nil {
			return nil, err
		}
		res.Bootstrap = b.out.Bootstrap
	}
	res.count(b.tree)
	return res, nil
}

func (b *builder) endBlob(w *blobWriter, res *Result) error {
	done, err := w.end()
	if err != nil {
		return err
	}
	res.Written = append(res.Written, done)
	return nil
}

// count fills in the numbers of files.
func (res *Result) count(t *tree) {
	seen := map[*inode]bool{}
	res.Inodes = 1
	t.walk(func(_ string, n *inode) error {
		if n.links > 1 && !n.isDir() {
			if seen[n] {
				return nil
			}
			seen[n] = true
		}
		res.Inodes++
		if n.isRegular() {
			res.Files++
			res.DataSize += n.size
		}
		return nil
	})
}

// model puts the image together: the blobs that files refer to, in the order
// in which they came, and the prefetch list.
func (b *builder) model() (*model, error) {
	o := b.opt
	m := &model{
		version: o.Version, tree: b.tree, store: b.store, chunkSize: o.ChunkSize, compressor: o.Compressor,
		digester: o.Digester, repeatable: o.Repeatable, tarfs: o.Tarfs,
		variable: o.Chunking == ContentChunks || o.Parent != nil && variableChunks(o.Parent.Info()),
	}
	if o.TargzRef {
		m.compressor = storage.Gzip
	}
	if o.TOC {
		m.flags |= rafs.InlinedChunkDigest
	}
	b.tree.finish()
	m.useBlobs()
	for _, bl := range m.blobs {
		if bl.info.Features&rafs.BlobInlinedChunkDigest == 0 {
			m.flags &^= rafs.InlinedChunkDigest
		}
	}
	if o.Prefetch == PrefetchFS {
		m.prefetchPaths(o.PrefetchPaths, o.Warn)
	}
	return m, nil
}

// prefetchPaths makes the prefetch list out of paths.
func (m *model) prefetchPaths(paths []string, warn func(string)) {
	for _, p := range paths {
		if n := m.tree.find(p); n != nil {
			m.prefetch = append(m.prefetch, n)
		} else {
			warn(fmt.Sprintf("prefetch path %s is not in the image", p))
		}
	}
}

// useBlobs makes the blob table out of those blobs of the store that some file
// has a chunk in.
func (m *model) useBlobs() {
	chunks := &m.store.chunks
	for _, bl := range m.store.blobs {
		bl.used = false
	}
	m.tree.walk(func(_ string, n *inode) error {
		for _, c := range n.chunks() {
			if c != holeChunk {
				m.store.of(chunks.at(c)).used = true
			}
		}
		return nil
	})
	for _, bl := range m.store.blobs {
		if bl.used {
			slices.SortFunc(bl.chunkList, func(x, y uint32) int { return cmp.Compare(chunks.at(x).index, chunks.at(y).index) })
			bl.table = len(m.blobs)
			m.blobs = append(m.blobs, bl)
		}
	}
}

// bootstrap is the layout of a bootstrap, which is written in one go: it is
// never in memory as a whole.
type bootstrap interface {
	bytes() int64 // that it will have
	writeTo(w io.Writer) error
}

// encode lays out the bootstrap.
func (m *model) encode() (bootstrap, error) {
	if m.version == 5 {
		return encodeV5(m)
	}
	return encodeV6(m)
}

// find returns the inode at path, nil if there is none. The tree is finished.
func (t *tree) find(p string) *inode {
	n := t.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if part == "" {
			continue
		}
		var next *inode
		if n.own != nil {
			next = n.own.get(part)
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}
