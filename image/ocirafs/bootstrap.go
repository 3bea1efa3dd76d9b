package ocirafs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxBootstrap is the most bytes that a bootstrap may have.
const maxBootstrap = 1 << 31

// Bootstrap copies the bootstrap of img, an OCI image that holds a RAFS
// image, to w. An image without one gives ErrNoBootstrap.
func Bootstrap(img v1.Image, w io.Writer) error {
	desc, err := BootstrapLayer(img)
	if err != nil {
		return err
	}
	layer, err := img.LayerByDigest(desc.Digest)
	if err != nil {
		return err
	}
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return extractBootstrap(r, w)
}

// BootstrapLayer returns the descriptor of the layer that has the bootstrap:
// the one that is marked as such.
func BootstrapLayer(img v1.Image) (*v1.Descriptor, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for i := len(m.Layers) - 1; i >= 0; i-- {
		if m.Layers[i].Annotations[AnnotationBootstrap] == "true" {
			return &m.Layers[i], nil
		}
	}
	return nil, ErrNoBootstrap
}

// Blobs returns the descriptors of the blob layers of img.
func Blobs(img v1.Image) ([]v1.Descriptor, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var out []v1.Descriptor
	for _, d := range m.Layers {
		if d.MediaType == MediaTypeBlob || d.Annotations[AnnotationBlob] == "true" {
			out = append(out, d)
		}
	}
	return out, nil
}

// extractBootstrap copies the bootstrap in the tar r to w.
func extractBootstrap(r io.Reader, w io.Writer) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("bootstrap layer: no %s in it", BootstrapPath)
		}
		if err != nil {
			return fmt.Errorf("bootstrap layer: %w", err)
		}
		if h.Typeflag != tar.TypeReg || path.Clean(h.Name) != BootstrapPath {
			continue
		}
		if h.Size > maxBootstrap {
			return fmt.Errorf("bootstrap layer: a bootstrap of %d bytes, the limit is %d", h.Size, maxBootstrap)
		}
		_, err = io.Copy(w, t)
		return err
	}
}
