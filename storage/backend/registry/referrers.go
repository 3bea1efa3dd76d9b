package registry

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"strings"
)

// Referrers lists the manifests whose subject is the manifest with that
// digest, "sha256:…", and that are of that artifact type: what the registry
// says at its referrers API, and else what the tag that takes its place
// (OCI distribution specification 1.1, "Referrers Tag Schema") lists. A
// repository that knows none gives an empty list.
func (b *Backend) Referrers(ctx context.Context, digest, artifactType string) ([]Descriptor, error) {
	if !validRef(digest) || !strings.HasPrefix(digest, "sha256:") {
		return nil, errors.New("referrers: not a digest")
	}
	var m *Manifest
	err := b.pool.Do(ctx, func(i int) (err error) {
		m, err = b.hosts[i].get(ctx, "referrers/"+digest+"?artifactType="+url.QueryEscape(artifactType), "")
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		m, err = b.Manifest(ctx, strings.Replace(digest, ":", "-", 1))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Descriptor
	for _, d := range m.Manifests {
		if d.ArtifactType == artifactType { // the registry need not have filtered
			list = append(list, d)
		}
	}
	return list, nil
}
