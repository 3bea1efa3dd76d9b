package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sluicefs/sluice/storage"
)

// rangeBackend reads blobs of a registry by ranges.
type rangeBackend struct {
	c    *http.Client
	repo name.Repository
	size map[string]int64
}

func registryBackend(repo name.Repository, o *Options, blobs map[string]int64) (storage.Backend, error) {
	a, err := authn.Resolve(context.Background(), o.keychain(), repo)
	if err != nil {
		return nil, err
	}
	t, err := transport.NewWithContext(context.Background(), repo.Registry, a, http.DefaultTransport, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &rangeBackend{&http.Client{Transport: t}, repo, blobs}, nil
}

func (b *rangeBackend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	u := fmt.Sprintf("%s://%s/v2/%s/blobs/sha256:%s", b.repo.Registry.Scheme(), b.repo.RegistryStr(), b.repo.RepositoryStr(), blob)
	req, _ := http.NewRequestWithContext(ctx, "GET", u, nil)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	r, err := b.c.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != 206 {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	_, err = io.ReadFull(r.Body, p)
	return err
}
func (b *rangeBackend) Size(_ context.Context, blob string) (int64, error) { return b.size[blob], nil }

func (i *Image) fromObjects(ctx context.Context, o *Options) (string, error) {
	return "", errors.New("object stores are not supported by this build")
}
