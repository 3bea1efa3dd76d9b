package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/registry"
)

// repository is where the manifests and blobs of one image are: a repository
// of a registry with its mirrors, one login for all that is asked.
type repository struct {
	*registry.Backend
	ref name.Reference
	o   *Options
}

// openRepository makes no request yet.
func openRepository(ref Ref, o *Options) (*repository, error) {
	r, err := parseName(ref, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	b, err := registry.New(registry.Options{
		Repository: r.Context().RegistryStr() + "/" + r.Context().RepositoryStr(),
		Keychain:   o.Keychain,
		PlainHTTP:  o.PlainHTTP || r.Context().Registry.Scheme() == "http",
		CertsDirs:  o.CertsDirs,
		Range:      o.ranges(),
	})
	if err != nil {
		return nil, err
	}
	return &repository{b, r, o}, nil
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

// pinned reports whether the reference has a digest, so that what it names
// can not change.
func (r *repository) pinned() bool {
	_, ok := r.ref.(name.Digest)
	return ok
}

// patience is how long a registry that does not answer is asked again before
// an image is opened: somebody is waiting.
var patience = backend.RetryOptions{Tries: 3, Deadline: 10 * time.Second}

// manifest fetches a manifest or an index by tag or digest.
func (r *repository) manifest(ctx context.Context, ref string) (m *registry.Manifest, err error) {
	err = backend.Again(ctx, patience, func() error {
		m, err = r.Manifest(ctx, ref)
		return err
	})
	return m, err
}

// small fetches a blob that fits into memory, and verifies it.
func (r *repository) small(ctx context.Context, d v1.Descriptor, limit int64) (b []byte, err error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest algorithm %s is not supported: sha256 is", d.Digest.Algorithm)
	}
	err = backend.Again(ctx, patience, func() error {
		b, err = r.Blob(ctx, registry.Descriptor{Digest: d.Digest.String(), Size: d.Size}, limit)
		return err
	})
	return b, err
}

// blobs reads ranges; what fails is tried again, but not for ever.
func (r *repository) blobs() storage.Backend {
	return backend.Retry(r.Backend, backend.RetryOptions{Deadline: r.o.RetryDeadline})
}

// open returns a blob for reading from its start. Its digest is checked at
// its end.
func (r *repository) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return newStream(ctx, r.blobs(), d)
}

// resolve asks the registry for the manifest. What it says is kept in dir, so
// that the image can be mounted again while the registry is away, and one
// that is named by its digest without asking.
func (r *repository) resolve(ctx context.Context, ref Ref, dir string) (*description, error) {
	saved := filepath.Join(dir, sha256Hex([]byte(r.ref.Name()+" "+r.o.platform().String()))+".json")
	if r.pinned() {
		if d, err := loadSaved(saved); err == nil {
			return d, nil
		}
	}
	d, err := r.ask(ctx, saved)
	if err == nil || ctx.Err() != nil || !unreachable(err) {
		return d, err
	}
	old, oldErr := loadSaved(saved)
	if oldErr != nil {
		return nil, err
	}
	r.o.warn("%s: the registry cannot be reached (%v); going on with the manifest of the last mount, %s", ref, err, old.digest)
	return old, nil
}

// savedManifest is a manifest with its configuration, as kept on disk.
type savedManifest struct {
	Digest   v1.Hash `json:"digest"`
	Manifest []byte  `json:"manifest"` // as it is: its digest counts
	Config   []byte  `json:"config,omitempty"`
}

// image fetches the manifest of the image for the platform.
func (r *repository) image(ctx context.Context) (v1.Hash, []byte, error) {
	what := r.ref.Identifier()
	for range maxNesting {
		m, err := r.manifest(ctx, what)
		if err != nil {
			return v1.Hash{}, nil, err
		}
		if !m.Index() {
			digest, err := v1.NewHash(m.Digest)
			return digest, m.Raw, err
		}
		var idx v1.IndexManifest
		if err := json.Unmarshal(m.Raw, &idx); err != nil {
			return v1.Hash{}, nil, fmt.Errorf("index: %w", err)
		}
		child, err := choose(&idx, "", r.o.platform())
		if err != nil {
			return v1.Hash{}, nil, err
		}
		what = child.Digest.String()
	}
	return v1.Hash{}, nil, fmt.Errorf("indexes are nested more than %d deep", maxNesting)
}

// ask fetches the manifest. The configuration, which is needed last, comes
// while the caller goes on: d.later waits for it.
func (r *repository) ask(ctx context.Context, savePath string) (*description, error) {
	digest, raw, err := r.image(ctx)
	if err != nil {
		return nil, err
	}
	d, err := describeManifest(digest, raw)
	if err != nil {
		return nil, err
	}
	type answer struct {
		config v1.Config
		err    error
	}
	got := make(chan answer, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		var a answer
		keep := savedManifest{Digest: digest, Manifest: raw}
		if b, err := r.small(ctx, d.manifest.Config, maxManifest); err == nil { // an artifact may have none
			keep.Config = b
			a.config, a.err = parseConfig(b)
		}
		if b, err := json.Marshal(keep); a.err == nil && err == nil && os.MkdirAll(filepath.Dir(savePath), 0o700) == nil {
			_ = writeAtomic(savePath, b) // only a convenience for bad days
		}
		got <- a
	}()
	d.later = func(wanted bool) (v1.Config, error) {
		defer cancel()
		if !wanted {
			cancel()
		}
		a := <-got
		return a.config, a.err
	}
	return d, nil
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
