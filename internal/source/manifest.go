package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/estargz"
)

// Annotations of the layers of a RAFS image, as nydus writes them.
const (
	annotationBootstrap = "containerd.io/snapshot/nydus-bootstrap"
	annotationBlob      = "containerd.io/snapshot/nydus-blob"
)

// maxManifest is what a manifest or index may be long, as registries have it.
const maxManifest = 4 << 20

// description is what the manifest of an image says.
type description struct {
	manifest  *v1.Manifest
	digest    v1.Hash // of the manifest
	bootstrap v1.Descriptor
	blobs     map[string]int64                     // hex digest -> stored bytes
	config    v1.Config                            // how to run it
	later     func(wanted bool) (v1.Config, error) // instead of config: waits for it; called once
	lazy      []estargz.Layer                      // instead of a bootstrap: all layers, which have tables of contents
	plain     bool                                 // instead of a bootstrap: tar layers
}

// describe finds the bootstrap and the blobs among the layers of m.
func describe(digest v1.Hash, m *v1.Manifest) (*description, error) {
	d := &description{manifest: m, digest: digest, blobs: map[string]int64{}}
	found := false
	for _, l := range m.Layers {
		if l.Size < 0 || l.Digest.Algorithm != "sha256" {
			return nil, fmt.Errorf("layer %s: size %d, digest algorithm %s", l.Digest, l.Size, l.Digest.Algorithm)
		}
		switch {
		case l.Annotations[annotationBootstrap] != "":
			d.bootstrap, found = l, true
		case l.Annotations[annotationBlob] != "" || strings.Contains(string(l.MediaType), "nydus.blob"):
			d.blobs[l.Digest.Hex] = l.Size
		}
	}
	if !found {
		if d.lazy = lazyLayers(m); d.lazy == nil {
			d.plain = true
			if err := checkPlain(m); err != nil {
				return nil, err
			}
		}
		for _, l := range m.Layers {
			d.blobs[l.Digest.Hex] = l.Size
		}
	}
	return d, nil
}

// parseConfig decodes an image's configuration blob.
func parseConfig(b []byte) (v1.Config, error) {
	var c v1.ConfigFile
	if err := json.Unmarshal(b, &c); err != nil {
		return v1.Config{}, fmt.Errorf("image configuration: %w", err)
	}
	return c.Config, nil
}

// choose returns the manifest in idx that is tagged tag, or for the platform,
// or the only one; nested says that it is an index again.
func choose(idx *v1.IndexManifest, tag string, platform v1.Platform) (v1.Descriptor, error) {
	var fit []v1.Descriptor
	for _, m := range idx.Manifests {
		if !m.MediaType.IsImage() && !m.MediaType.IsIndex() {
			continue
		}
		name := m.Annotations["org.opencontainers.image.ref.name"]
		if tag != "" && name != tag && !strings.HasSuffix(name, ":"+tag) {
			continue
		}
		if m.Platform != nil && m.Platform.OS != "" && !m.Platform.Satisfies(platform) {
			continue
		}
		fit = append(fit, m)
	}
	switch {
	case len(fit) == 0 && tag != "":
		return v1.Descriptor{}, fmt.Errorf("no image tagged %s", tag)
	case len(fit) == 0:
		return v1.Descriptor{}, fmt.Errorf("no image for %s", platform.String())
	case len(fit) == 1:
		return fit[0], nil
	}
	// Of several for the platform the RAFS one is meant.
	for _, m := range fit {
		if m.Platform != nil && slices.Contains(m.Platform.OSFeatures, "nydus.remoteimage.v1") {
			return m, nil
		}
	}
	if tag == "" && fit[0].Platform == nil {
		return v1.Descriptor{}, fmt.Errorf("has %d images: say which one with :TAG", len(fit))
	}
	return fit[0], nil
}

var errNoBootstrap = errors.New("no image/image.boot in the bootstrap layer")
