package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/build"
)

// Layers is a plain OCI image: tar layers that an image can be built of.
type Layers struct {
	Digest string // of the manifest
	Config *v1.ConfigFile
	Size   int64         // of all layers as stored
	List   []build.Layer // the lowest first

	close func() error
}

// Close gives back what the image holds.
func (l *Layers) Close() error { return l.close() }

// OpenLayers finds the layers of the OCI image that ref names, which is in a
// registry, an OCI layout or an OCI archive. Their bytes are fetched when a
// layer is opened, and are checked against the digest in the manifest.
func OpenLayers(ctx context.Context, ref Ref, o Options) (*Layers, error) {
	l := &Layers{close: func() error { return nil }}
	var err error
	switch ref.Kind {
	case Registry:
		err = l.fromRegistry(ctx, ref, &o)
	case OCILayout:
		err = l.fromLayout(ref, dirFiles(ref.Name), &o)
	case OCIArchive:
		var a *archive
		if a, err = openArchive(ref.Name); err == nil {
			l.close = a.Close
			err = l.fromLayout(ref, a, &o)
		}
	default:
		err = fmt.Errorf("type %s is not an OCI image", ref.Kind)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return l, nil
}

func (l *Layers) fromRegistry(ctx context.Context, ref Ref, o *Options) error {
	r, err := openRepository(ref, o)
	if err != nil {
		return err
	}
	l.close = r.Close
	digest, raw, err := r.image(ctx)
	if err != nil {
		return err
	}
	return l.parse(digest, raw, r.open, func(c v1.Descriptor) ([]byte, error) { return r.small(ctx, c, maxManifest) })
}

func (l *Layers) fromLayout(ref Ref, fs files, o *Options) error {
	digest, b, err := layoutManifest(ref, fs, o.platform())
	if err != nil {
		return err
	}
	return l.parse(digest, b, layoutOpener(fs), func(c v1.Descriptor) ([]byte, error) { return readVerified(fs, c) })
}

// opener opens a blob, whose digest is checked at its end.
type opener func(context.Context, v1.Descriptor) (io.ReadCloser, error)

func layoutOpener(fs files) opener {
	return func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
		f, err := fs.Open(blobPath(d.Digest.Hex))
		if err != nil {
			return nil, err
		}
		return &verified{ReadCloser: f, want: d.Digest.Hex, hash: sha256.New()}, nil
	}
}

// parse takes over what the manifest raw says.
func (l *Layers) parse(digest v1.Hash, raw []byte, open opener, read func(v1.Descriptor) ([]byte, error)) error {
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	l.Digest = digest.String()
	if c, err := read(m.Config); err == nil {
		if err := json.Unmarshal(c, &l.Config); err != nil {
			return fmt.Errorf("image configuration: %w", err)
		}
	}
	if err := checkPlain(&m); err != nil {
		return err
	}
	l.Size, l.List = layersOf(m.Layers, open)
	return nil
}

// checkPlain refuses a manifest whose layers are no tar archives.
func checkPlain(m *v1.Manifest) error {
	for _, d := range m.Layers {
		if d.Size < 0 || d.Digest.Algorithm != "sha256" {
			return fmt.Errorf("layer %s: size %d, digest algorithm %s", d.Digest, d.Size, d.Digest.Algorithm)
		}
		if !d.MediaType.IsLayer() {
			return fmt.Errorf("layer %s has media type %s: this is not a plain image", d.Digest, d.MediaType)
		}
	}
	return nil
}

// layersOf is what an image can be built of, and its stored size.
func layersOf(layers []v1.Descriptor, open opener) (size int64, list []build.Layer) {
	for _, d := range layers {
		size += d.Size
		list = append(list, build.Layer{
			Name: "layer " + d.Digest.String(),
			Open: func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, d) },
		})
	}
	return size, list
}

// verified is a blob whose digest is checked at its end.
type verified struct {
	io.ReadCloser
	want string
	hash hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(v.hash.Sum(nil)); got != v.want {
			return n, fmt.Errorf("digest is sha256:%s, want sha256:%s", got, v.want)
		}
	}
	return n, err
}
