package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// Limits of manifests.
const (
	MaxManifest = 4 << 20 // bytes
	maxLayers   = 4096
	maxDepth    = 3 // indexes in indexes
)

// Media types of manifests and indexes, OCI's and docker's.
const (
	typeManifest       = "application/vnd.oci.image.manifest.v1+json"
	typeIndex          = "application/vnd.oci.image.index.v1+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Descriptor points to a manifest, a config or a layer.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform is what an image runs on.
type Platform struct {
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant,omitempty"`
	Features     []string `json:"os.features,omitempty"`
}

// Manifest is an image manifest or an index.
type Manifest struct {
	MediaType   string            `json:"mediaType"`
	Config      Descriptor        `json:"config"`
	Layers      []Descriptor      `json:"layers"`
	Manifests   []Descriptor      `json:"manifests"` // of an index
	Annotations map[string]string `json:"annotations"`

	Digest string `json:"-"` // of the bytes it was parsed from
	Raw    []byte `json:"-"`
}

// Index reports whether m lists manifests.
func (m *Manifest) Index() bool {
	return m.MediaType == typeIndex || m.MediaType == typeDockerList
}

// Manifest fetches the manifest that ref, a tag or "sha256:…", names, as it
// is: an index stays an index. It is verified against a digest.
func (b *Backend) Manifest(ctx context.Context, ref string) (m *Manifest, err error) {
	if !validRef(ref) {
		return nil, &backend.Error{Op: "manifest", Where: b.where, Final: true, Err: fmt.Errorf("%.80q is neither tag nor digest", ref)}
	}
	err = b.pool.Do(ctx, func(i int) error {
		h := b.hosts[i]
		if i < len(b.hosts)-1 && (!h.resolve && !strings.Contains(ref, ":") || storage.IsFromOrigin(ctx)) {
			return &backend.Error{Op: "manifest", Where: h.base, Final: true, Err: errors.New("host does not resolve tags")}
		}
		m, err = h.manifest(ctx, ref)
		return err
	})
	return m, err
}

func validRef(ref string) bool {
	return backend.ValidID(ref) && (!strings.Contains(ref, ":") || strings.HasPrefix(ref, "sha256:"))
}

// manifestTime bounds one try.
const manifestTime = 30 * time.Second

func (e *endpoint) manifest(ctx context.Context, ref string) (*Manifest, error) {
	want := ""
	if strings.Contains(ref, ":") {
		want = ref
	}
	return e.get(ctx, "manifests/"+ref, want)
}

// get fetches what lies at a path of the repository and is a manifest or an
// index. Unless want is "" it has that digest.
func (e *endpoint) get(ctx context.Context, path, want string) (*Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	where, _ := strings.CutPrefix(strings.TrimPrefix(e.base, "https://"), "http://")
	_, ref, _ := strings.Cut(path, "/")
	ref, _, _ = strings.Cut(ref, "?")
	where += ":" + ref
	fail := func(err error) error {
		return &backend.Error{Op: "manifest", Where: where, Err: backend.Redact(err)}
	}
	res, err := e.follow(ctx, e.base+"/"+path)
	if err != nil {
		var own *backend.Error
		if errors.As(err, &own) {
			return nil, err
		}
		return nil, fail(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, &backend.Error{
			Op: "manifest", Where: where, Status: res.StatusCode, Err: errors.New(strings.ToLower(http.StatusText(res.StatusCode))),
			RetryAfter: ranged.RetryAfter(res.Header.Get("Retry-After"), time.Now()),
		}
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, MaxManifest+1))
	if err != nil {
		return nil, fail(err)
	}
	if want == "" {
		want = res.Header.Get("Docker-Content-Digest")
	}
	m, err := ParseManifest(raw, want)
	if err != nil {
		return nil, &backend.Error{Op: "manifest", Where: where, Final: true, Err: err}
	}
	return m, nil
}

// follow gets a manifest; some registries redirect for it.
func (e *endpoint) follow(ctx context.Context, u string) (*http.Response, error) {
	c := &http.Client{Transport: e.rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 || via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("redirects lead nowhere")
		}
		if req.URL.Host != via[0].URL.Host {
			for k := range e.header {
				req.Header.Del(k) // may hold credentials
			}
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range e.header {
		req.Header[k] = v
	}
	for _, t := range []string{typeManifest, typeIndex, typeDockerManifest, typeDockerList} {
		req.Header.Add("Accept", t)
	}
	return c.Do(req)
}

// ParseManifest parses a manifest or an index. Unless want is "" or of
// another hash, b is verified against it.
func ParseManifest(b []byte, want string) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("larger than %d bytes", MaxManifest)
	}
	sum := sha256.Sum256(b)
	m := &Manifest{Digest: "sha256:" + hex.EncodeToString(sum[:]), Raw: b}
	if strings.HasPrefix(want, "sha256:") && want != m.Digest {
		return nil, fmt.Errorf("digest is %s, not %s", m.Digest, want)
	}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, errors.New("not a manifest: " + firstLine(err))
	}
	if m.MediaType == "" {
		if m.MediaType = typeManifest; len(m.Manifests) > 0 {
			m.MediaType = typeIndex
		}
	}
	switch m.MediaType {
	case typeManifest, typeDockerManifest, typeIndex, typeDockerList:
	default:
		return nil, fmt.Errorf("media type %.80q is neither a manifest nor an index", m.MediaType)
	}
	if len(m.Layers)+len(m.Manifests) > maxLayers {
		return nil, fmt.Errorf("more than %d layers or manifests", maxLayers)
	}
	all := append(append([]Descriptor{}, m.Layers...), m.Manifests...)
	if !m.Index() {
		all = append(all, m.Config)
	}
	for _, d := range all {
		if hexa, ok := strings.CutPrefix(d.Digest, "sha256:"); !ok || len(hexa) != 64 || !backend.ValidID(hexa) || d.Size < 0 {
			return nil, fmt.Errorf("descriptor with digest %.80q and size %d", d.Digest, d.Size)
		}
	}
	return m, nil
}

// Image fetches the manifest that ref names; of an index, the one that
// choose picks. choose returns the position in Manifests, or below 0 if none
// fits.
func (b *Backend) Image(ctx context.Context, ref string, choose func(*Manifest) int) (*Manifest, error) {
	for range maxDepth {
		m, err := b.Manifest(ctx, ref)
		if err != nil || !m.Index() {
			return m, err
		}
		i := choose(m)
		if i < 0 || i >= len(m.Manifests) {
			return nil, &backend.Error{Op: "manifest", Where: b.where + ":" + ref, Final: true, Err: fmt.Errorf("no image for this platform among %d: %w", len(m.Manifests), fs.ErrNotExist)}
		}
		ref = m.Manifests[i].Digest
	}
	return nil, &backend.Error{Op: "manifest", Where: b.where, Final: true, Err: fmt.Errorf("indexes nested more than %d deep", maxDepth)}
}

// Blob fetches a whole blob of at most limit bytes and verifies its digest,
// "sha256:…".
func (b *Backend) Blob(ctx context.Context, d Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, &backend.Error{Op: "read", Where: b.where, Blob: d.Digest, Final: true, Err: fmt.Errorf("%d bytes, at most %d are read", d.Size, limit)}
	}
	p := make([]byte, d.Size)
	for _, ctx := range []context.Context{ctx, storage.FromOrigin(ctx)} {
		if err := b.ReadAt(ctx, d.Digest, p, 0); err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(p); "sha256:"+hex.EncodeToString(sum[:]) == d.Digest {
			return p, nil
		}
	}
	return nil, &backend.Error{Op: "verify", Where: b.where, Blob: d.Digest, Final: true, Err: errors.New("bytes do not have this digest")}
}
