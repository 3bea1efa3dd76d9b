package build

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
)

// MergeLayer is one layer of a merge: its bootstrap, and what is known of the
// blob that was made together with it. Such a blob holds its own bootstrap,
// which can not say what the blob is called.
type MergeLayer struct {
	Tree image.Tree
	// Own is the id by which the layer's bootstrap, or the name of its file,
	// knows the layer's blob; "" if no blob of the layer needs a change.
	Own       string
	ID        string   // name that the blob is stored under; "" leaves it
	Size      int64    // of the blob; 0 leaves what the bootstrap says
	TOCDigest [32]byte // zeros leave what the bootstrap says
	TOCSize   uint32   // so does 0
}

// Merge puts layers on top of each other, the lowest first, and writes the
// bootstrap of the whole to out.Bootstrap. Blobs are not touched: all layers
// have to agree on version, chunk size and digester. Of opt the whiteouts,
// the parent and the prefetch settings count.
func Merge(ctx context.Context, layers []MergeLayer, out Output, opt Options) (*Result, error) {
	if len(layers) == 0 {
		return nil, errors.New("nothing to merge")
	}
	info := layers[0].Tree.Info()
	m, err := infoModel(info)
	if err != nil {
		return nil, err
	}
	if opt.Warn == nil {
		opt.Warn = func(string) {}
	}
	t, s := newTree(opt.Warn), newStore()
	over := overlayer{tree: t, whiteouts: opt.Whiteouts}
	all := layers
	if opt.Parent != nil {
		all = append([]MergeLayer{{Tree: opt.Parent}}, layers...)
	}
	for i := range all {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		layer := &all[i]
		if err := agrees(layer.Tree.Info(), info); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		l, err := newLoader(layer.Tree, t, s, int32(i+1), layer.settle)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		root, err := l.root()
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		over.layer = int32(i + 1)
		over.merge(root)
		m.compressor = layer.Tree.Info().Compressor
		m.variable = m.variable || l.variable
	}
	m.tree, m.store = t, s
	t.finish()
	m.useBlobs()
	if opt.Prefetch == PrefetchFS {
		m.prefetchPaths(opt.PrefetchPaths, opt.Warn)
	}
	return m.publish(out)
}

// settle changes what the image says of the layer's own blob.
func (l *MergeLayer) settle(b *blob) {
	own := b.info.Features&rafs.BlobInlinedMeta != 0 || b.id == inlinedID || l.Own != "" && b.id == l.Own
	b.info.Features &^= rafs.BlobInlinedMeta
	if !own {
		return
	}
	switch {
	case l.ID != "":
		b.id = l.ID
	case b.id == inlinedID && l.Own != "":
		b.id = l.Own
	}
	if l.Size > 0 {
		b.info.CompressedSize = uint64(l.Size)
	}
	if l.TOCSize > 0 {
		b.info.TOCSize = l.TOCSize
	}
	if l.TOCDigest != [32]byte{} {
		b.info.TOCDigest = l.TOCDigest
	}
}

// infoModel returns an empty image of the same kind.
func infoModel(info image.Info) (*model, error) {
	m := &model{
		chunkSize: info.ChunkSize, compressor: info.Compressor, digester: info.Digester,
		flags: rafs.SuperFlags(info.Flags) & rafs.InlinedChunkDigest,
	}
	switch info.Format {
	case "rafs v5":
		m.version = 5
	case "rafs v6":
		m.version = 6
	default:
		return nil, fmt.Errorf("%s images can not be put together: convert to rafs v6 first", info.Format)
	}
	flags := rafs.SuperFlags(info.Flags)
	m.repeatable = flags&rafs.ExplicitOwner == 0
	m.tarfs = flags&rafs.TarfsMode != 0
	m.variable = variableChunks(info)
	return m, nil
}

// agrees says whether images of both kinds can be layers of one.
func agrees(a, b image.Info) error {
	owner := func(i image.Info) bool { return rafs.SuperFlags(i.Flags)&rafs.ExplicitOwner != 0 }
	switch {
	case a.Format != b.Format:
		return fmt.Errorf("is %s, the first layer is %s", a.Format, b.Format)
	case a.ChunkSize != b.ChunkSize:
		return fmt.Errorf("has chunks of %d bytes, the first layer of %d", a.ChunkSize, b.ChunkSize)
	case a.Digester != b.Digester:
		return fmt.Errorf("has %v digests, the first layer %v", a.Digester, b.Digester)
	case owner(a) != owner(b):
		return errors.New("and the first layer do not both have owners")
	}
	return nil
}

// publish encodes the image, writes it to out.Bootstrap and says what it is.
func (m *model) publish(out Output) (*Result, error) {
	set, err := Output{Bootstrap: out.Bootstrap, volatile: out.volatile}.begin()
	if err != nil {
		return nil, err
	}
	defer set.abort()
	res, err := m.write(set)
	if err != nil {
		return nil, err
	}
	return res, set.commit()
}

// write encodes the image and writes it to the set's bootstrap.
func (m *model) write(set *outputSet) (*Result, error) {
	for _, b := range m.blobs {
		if b.info.Features&rafs.BlobInlinedChunkDigest == 0 {
			m.flags &^= rafs.InlinedChunkDigest
		}
	}
	bootstrap, err := m.encode()
	if err != nil {
		return nil, err
	}
	f, err := set.create(set.Bootstrap)
	if err != nil {
		return nil, err
	}
	if err := bootstrap.writeTo(f); err != nil {
		return nil, err
	}
	res := &Result{Version: m.version, Bootstrap: set.Bootstrap, BootstrapSize: bootstrap.bytes()}
	for _, b := range m.blobs {
		res.Blobs = append(res.Blobs, b.id)
	}
	res.count(m.tree)
	return res, nil
}
