package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// files is an OCI layout, whatever holds it.
type files interface {
	// ReadFile returns a small file by its path in the layout.
	ReadFile(name string, limit int64) ([]byte, error)
	// Open returns a file for reading from its start.
	Open(name string) (io.ReadCloser, error)
}

// dirFiles is a layout in a directory.
type dirFiles string

func (d dirFiles) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

func (d dirFiles) Open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
}

// maxNesting is how deep indexes may lie in indexes.
const maxNesting = 4

// resolveLayout finds the image tagged tag in a layout.
func resolveLayout(ref Ref, fs files, platform v1.Platform) (*description, error) {
	digest, b, err := layoutManifest(ref, fs, platform)
	if err != nil {
		return nil, err
	}
	return describeBytes(digest, b, func(c v1.Descriptor) ([]byte, error) { return readVerified(fs, c) })
}

// layoutManifest returns the manifest of the image that ref means in a layout.
func layoutManifest(ref Ref, fs files, platform v1.Platform) (v1.Hash, []byte, error) {
	b, err := fs.ReadFile("index.json", maxManifest)
	if err != nil {
		return v1.Hash{}, nil, err
	}
	tag := ref.Tag
	for range maxNesting {
		var idx v1.IndexManifest
		if err := json.Unmarshal(b, &idx); err != nil {
			return v1.Hash{}, nil, fmt.Errorf("index: %w", err)
		}
		desc, err := choose(&idx, tag, platform)
		if err != nil {
			return v1.Hash{}, nil, err
		}
		b, err = readVerified(fs, desc)
		if err != nil || !desc.MediaType.IsIndex() {
			return desc.Digest, b, err
		}
		tag = ""
	}
	return v1.Hash{}, nil, fmt.Errorf("indexes are nested more than %d deep", maxNesting)
}

// readVerified reads a manifest or configuration blob and checks its digest.
func readVerified(fs files, d v1.Descriptor) ([]byte, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest algorithm %s is not supported: sha256 is", d.Digest.Algorithm)
	}
	b, err := fs.ReadFile(blobPath(d.Digest.Hex), maxManifest)
	if err != nil {
		return nil, err
	}
	if got := sha256Hex(b); got != d.Digest.Hex {
		return nil, fmt.Errorf("blob %s: digest is sha256:%s", d.Digest, got)
	}
	return b, nil
}

// describeBytes parses a manifest and the configuration that it names.
func describeBytes(digest v1.Hash, b []byte, read func(v1.Descriptor) ([]byte, error)) (*description, error) {
	var m v1.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	d, err := describe(digest, &m)
	if err != nil {
		return nil, err
	}
	if c, err := read(m.Config); err == nil {
		d.config, err = parseConfig(c)
		return d, err
	}
	return d, nil // an artifact may have an empty configuration
}

// remoteOptions are how registries are asked.
func (o *Options) remoteOptions(ctx context.Context) []remote.Option {
	opts := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(o.keychain()),
		remote.WithUserAgent("sluice"),
	}
	if o.Transport != nil {
		opts = append(opts, remote.WithTransport(o.Transport))
	}
	if o.puller == nil {
		// One for all that is asked: it greets the registry and gets a token
		// once, which else is a round trip or two for each request.
		if p, err := remote.NewPuller(opts...); err == nil {
			o.puller = p
		}
	}
	if o.puller != nil {
		opts = append(opts, remote.Reuse(o.puller))
	}
	return opts
}

func (o *Options) keychain() authn.Keychain {
	if o.Keychain != nil {
		return o.Keychain
	}
	return authn.DefaultKeychain
}

// parseName parses an image reference.
func parseName(ref Ref, plainHTTP bool) (name.Reference, error) {
	var opts []name.Option
	if plainHTTP {
		opts = append(opts, name.Insecure)
	}
	r, err := name.ParseReference(ref.Name, opts...)
	if err != nil {
		return nil, fmt.Errorf("not an image reference, and there is no such file or directory: %w", err)
	}
	return r, nil
}

// resolveRegistry asks the registry for the manifest. What it says is kept
// in dir, so that the image can be mounted again while the registry is away.
func resolveRegistry(ctx context.Context, ref Ref, r name.Reference, o *Options, dir string) (*description, error) {
	saved := filepath.Join(dir, sha256Hex([]byte(r.Name()+" "+o.platform().String()))+".json")
	d, err := askRegistry(ctx, r, o, saved)
	if err == nil || ctx.Err() != nil || !unreachable(err) {
		return d, err
	}
	old, oldErr := loadSaved(saved)
	if oldErr != nil {
		return nil, err
	}
	o.warn("%s: the registry cannot be reached (%v); going on with the manifest of the last mount, %s", ref, err, old.digest)
	return old, nil
}

// savedManifest is a manifest with its configuration, as kept on disk.
type savedManifest struct {
	Digest   v1.Hash `json:"digest"`
	Manifest []byte  `json:"manifest"` // as it is: its digest counts
	Config   []byte  `json:"config,omitempty"`
}

func askRegistry(ctx context.Context, r name.Reference, o *Options, savePath string) (*description, error) {
	p := o.platform()
	opts := append(o.remoteOptions(ctx), remote.WithPlatform(p))
	desc, err := remote.Get(r, opts...)
	if err != nil {
		return nil, err
	}
	raw, digest := desc.Manifest, desc.Digest
	for range maxNesting {
		if !desc.MediaType.IsIndex() {
			break
		}
		var idx v1.IndexManifest
		if err := json.Unmarshal(raw, &idx); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		child, err := choose(&idx, "", p)
		if err != nil {
			return nil, err
		}
		if desc, err = remote.Get(r.Context().Digest(child.Digest.String()), opts...); err != nil {
			return nil, err
		}
		raw, digest = desc.Manifest, desc.Digest
	}
	keep := savedManifest{Digest: digest, Manifest: raw}
	d, err := describeBytes(digest, raw, func(c v1.Descriptor) ([]byte, error) {
		b, err := fetchSmall(r.Context(), c, opts)
		if err == nil {
			keep.Config = b
		}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	if b, err := json.Marshal(keep); err == nil && os.MkdirAll(filepath.Dir(savePath), 0o700) == nil {
		_ = writeAtomic(savePath, b) // only a convenience for bad days
	}
	return d, nil
}

// fetchSmall fetches a configuration blob; its digest is checked on the way.
func fetchSmall(repo name.Repository, d v1.Descriptor, opts []remote.Option) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, fmt.Errorf("blob %s: %d bytes are too many for a configuration", d.Digest, d.Size)
	}
	l, err := remote.Layer(repo.Digest(d.Digest.String()), opts...)
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(io.LimitReader(rc, maxManifest))
}

func loadSaved(path string) (*description, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s savedManifest
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	if got := sha256Hex(s.Manifest); got != s.Digest.Hex {
		return nil, fmt.Errorf("%s: manifest does not have digest %s", path, s.Digest)
	}
	return describeBytes(s.Digest, s.Manifest, func(v1.Descriptor) ([]byte, error) {
		if len(s.Config) == 0 {
			return nil, errors.New("no configuration was kept")
		}
		return s.Config, nil
	})
}
