// Package ocirafs packs RAFS images as OCI images and finds them in OCI
// images: every blob is a layer, and the last layer is a gzipped tar with the
// bootstrap as image/image.boot. The media types and annotations are those by
// which nydus-snapshotter and nydusd know such images.
//
// [New] makes the OCI image of a bootstrap and its blobs, [Push] brings it to
// a registry and [WriteLayout] into an OCI layout directory; [Bootstrap]
// takes the bootstrap out of an image again.
package ocirafs

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types, annotations and names of RAFS images in OCI images.
const (
	MediaTypeBlob = types.MediaType("application/vnd.oci.image.layer.nydus.blob.v1")

	AnnotationBlob      = "containerd.io/snapshot/nydus-blob"       // "true" on a blob layer
	AnnotationBootstrap = "containerd.io/snapshot/nydus-bootstrap"  // "true" on the bootstrap layer
	AnnotationVersion   = "containerd.io/snapshot/nydus-fs-version" // "5" or "6", on the bootstrap layer

	// OSFeature marks the platform of a RAFS image in an index that also has
	// the image's plain form.
	OSFeature = "nydus.remoteimage.v1"

	// BootstrapPath is the bootstrap's place in its layer.
	BootstrapPath = "image/image.boot"

	createdBy = "sluice"
)

// ErrNoBootstrap says that an OCI image has no bootstrap layer: it is not a
// RAFS image.
var ErrNoBootstrap = errors.New("has no RAFS bootstrap layer")

// Image is a RAFS image in local files.
type Image struct {
	Bootstrap string         // path
	Blobs     []string       // paths, in the order of the blob table
	Version   int            // of RAFS, 5 or 6; 0 means 6
	Config    *v1.ConfigFile // of the container image, nil if it is not made of one
	Platform  *v1.Platform   // nil: that of Config, or this machine's
}

// New returns the OCI image of img. The files are read when the image is
// pushed or written, and must be there until then.
func New(img Image) (v1.Image, error) {
	config := &v1.ConfigFile{}
	if img.Config != nil {
		config = img.Config.DeepCopy()
	}
	switch {
	case img.Platform != nil:
		config.OS, config.Architecture, config.Variant = img.Platform.OS, img.Platform.Architecture, img.Platform.Variant
	case config.OS == "":
		config.OS, config.Architecture = "linux", runtime.GOARCH
	}
	config.RootFS = v1.RootFS{Type: "layers"}
	config.History = nil
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	base, err := mutate.ConfigFile(base, config)
	if err != nil {
		return nil, err
	}
	var adds []mutate.Addendum
	for _, path := range img.Blobs {
		layer, err := newFileLayer(path)
		if err != nil {
			return nil, err
		}
		adds = append(adds, mutate.Addendum{
			Layer: layer, MediaType: MediaTypeBlob, Annotations: map[string]string{AnnotationBlob: "true"},
			History: v1.History{CreatedBy: createdBy, Comment: "RAFS blob"},
		})
	}
	boot, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return bootstrapTar(img.Bootstrap) },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("bootstrap %s: %w", img.Bootstrap, err)
	}
	version := img.Version
	if version == 0 {
		version = 6
	}
	adds = append(adds, mutate.Addendum{
		Layer: boot, MediaType: types.OCILayer,
		Annotations: map[string]string{AnnotationBootstrap: "true", AnnotationVersion: strconv.Itoa(version)},
		History:     v1.History{CreatedBy: createdBy, Comment: "RAFS bootstrap"},
	})
	return mutate.Append(base, adds...)
}

// bootstrapTar streams a tar that has the file as image/image.boot.
func bootstrapTar(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		defer f.Close()
		w.CloseWithError(writeBootstrapTar(w, f, fi.Size()))
	}()
	return r, nil
}

func writeBootstrapTar(w io.Writer, boot io.Reader, size int64) error {
	t := tar.NewWriter(w)
	dir := &tar.Header{Typeflag: tar.TypeDir, Name: path.Dir(BootstrapPath) + "/", Mode: 0o755, Format: tar.FormatUSTAR}
	if err := t.WriteHeader(dir); err != nil {
		return err
	}
	file := &tar.Header{Typeflag: tar.TypeReg, Name: BootstrapPath, Mode: 0o444, Size: size}
	if err := t.WriteHeader(file); err != nil {
		return err
	}
	if _, err := io.Copy(t, boot); err != nil {
		return err
	}
	return t.Close()
}

// Push brings img to the registry, under the tag or digest ref. Blobs that
// the registry has already are not sent again.
func Push(ctx context.Context, ref name.Reference, img v1.Image, opt ...remote.Option) error {
	return remote.Write(ref, img, append(opt, remote.WithContext(ctx))...)
}

// WriteLayout adds img to the OCI layout in the directory dir, which is made
// if it is not there, under the name tag ("" for none).
func WriteLayout(dir string, img v1.Image, tag string) error {
	p, err := layout.FromPath(dir)
	if err != nil {
		if p, err = layout.Write(dir, empty.Index); err != nil {
			return err
		}
	}
	if tag == "" {
		return p.AppendImage(img)
	}
	return p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag}))
}
