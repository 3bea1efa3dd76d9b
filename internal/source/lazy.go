package source

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/estargz"
)

// lazyLayers returns the layers of a plain image if all of them have a table
// of contents, so that it can be mounted without fetching them, else nil.
func lazyLayers(m *v1.Manifest) []estargz.Layer {
	var layers []estargz.Layer
	for _, l := range m.Layers {
		layers = append(layers, estargz.Layer{ID: l.Digest.Hex, Size: l.Size, Annotations: l.Annotations})
	}
	if !estargz.Lazy(layers) {
		return nil
	}
	return layers
}

// openLazy fetches the tables of contents of the layers.
func (i *Image) openLazy(ctx context.Context) error {
	tree, err := estargz.Open(ctx, i.Backend, i.lazy)
	if err != nil {
		return err
	}
	i.Tree = tree
	i.closers = append(i.closers, tree)
	return nil
}
