// Package registry reads blobs and manifests of one repository of an OCI
// registry: the pull half of the OCI distribution specification 1.1.
//
// Credentials come from docker's configuration and its helpers, mirrors from
// containerd's certs.d/hosts.toml. Blobs are read by ranges, from mirrors
// first; where a registry redirects to a store, that place is remembered
// until it expires, and never sees the registry's credentials.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// Options of New. Zero values are the defaults.
type Options struct {
	Repository string // "host[:port]/path" or "path" at Docker Hub; required

	Keychain authn.Keychain    // where credentials come from; default docker's configuration and helpers
	Auth     *authn.AuthConfig // credentials for the registry itself, in place of the keychain's

	PlainHTTP bool        // no TLS, which for a registry on this machine is the default
	TLS       backend.TLS // for the registry itself where no hosts.toml says otherwise

	CertsDirs []string // directories of hosts.toml; default /etc/containerd/certs.d and /etc/docker/certs.d
	Mirrors   []string // URLs asked before the registry, in place of a hosts.toml

	Range ranged.Options // time-outs
	Hedge time.Duration  // see backend.MirrorOptions

	// Wrap, if set, is put around the transport of each host: a proxy.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Backend reads from one repository. Its methods are safe for concurrent
// use.
type Backend struct {
	storage.Backend // the mirror of all hosts

	repo  string // path of the repository
	where string
	hosts []*endpoint
	pool  *backend.Pool
	idle  []*http.Transport
}

// endpoint is one host with the repository.
type endpoint struct {
	ranged.Bound
	rt      http.RoundTripper
	base    string // URL of the repository
	header  http.Header
	resolve bool
}

var defaultCertsDirs = []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"}

// New returns a backend for the blobs of a repository: "sha256:" and the
// blob's ID are the digest that is asked for. It does no I/O beyond reading
// configuration files.
func New(o Options) (*Backend, error) {
	var opts []name.Option
	if o.PlainHTTP {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(o.Repository, opts...)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	hosts, err := o.hosts(repo)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", repo.RegistryStr(), err)
	}
	b := &Backend{repo: repo.RepositoryStr(), where: repo.Name(), pool: backend.NewPool(len(hosts), nil)}
	var places []storage.Backend
	for i, h := range hosts {
		e, err := b.endpoint(&o, h, i == len(hosts)-1)
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("registry %s: %w", h.URL.Host, err)
		}
		b.hosts = append(b.hosts, e)
		places = append(places, e)
	}
	b.Backend = backend.Mirror(backend.MirrorOptions{Pool: b.pool, Hedge: o.Hedge}, places...)
	return b, nil
}

// hosts lists the mirrors and the registry.
func (o *Options) hosts(repo name.Repository) ([]Host, error) {
	scheme := repo.Registry.Scheme()
	if backend.IsLocal(hostname(repo.RegistryStr())) {
		scheme = "http"
	}
	server := Host{URL: &url.URL{Scheme: scheme, Host: repo.RegistryStr(), Path: "/v2"}, Resolve: true, TLS: o.TLS}
	if len(o.TLS.CAFiles) > 0 && !o.PlainHTTP {
		server.URL.Scheme = "https" // who names an authority means TLS, on this machine too
	}
	if len(o.Mirrors) > 0 {
		var hosts []Host
		for _, m := range o.Mirrors {
			h, _, err := (&hostConfig{}).host(m, "")
			if err != nil {
				return nil, err
			}
			hosts = append(hosts, h)
		}
		return append(hosts, server), nil
	}
	dirs := o.CertsDirs
	if dirs == nil {
		dirs = defaultCertsDirs
	}
	return ReadHosts(dirs, repo.RegistryStr(), server)
}

func hostname(hostport string) string { return (&url.URL{Host: hostport}).Hostname() }

// endpoint makes the client of one host. Credentials given in o are for the
// registry, not for its mirrors.
func (b *Backend) endpoint(o *Options, h Host, origin bool) (*endpoint, error) {
	t, err := backend.Transport(h.TLS)
	if err != nil {
		return nil, err
	}
	b.idle = append(b.idle, t)
	var rt http.RoundTripper = t
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	creds := o.keychain(h.URL.Host)
	if origin && o.Auth != nil {
		creds = func(context.Context) (authn.AuthConfig, error) { return *o.Auth, nil }
	}
	rt = newLogin(rt, &url.URL{Scheme: h.URL.Scheme, Host: h.URL.Host}, b.repo, creds)
	e := &endpoint{
		rt:     rt,
		base:   strings.TrimSuffix(h.URL.String(), "/") + "/" + b.repo,
		header: h.Header, resolve: h.Resolve,
	}
	ro := o.Range
	ro.Where, ro.Header = h.URL.Host+"/"+b.repo, h.Header
	e.Bound = ranged.Bound{Client: ranged.New(rt, ro), URL: func(blob string) string {
		if !strings.Contains(blob, ":") {
			blob = "sha256:" + blob
		}
		return e.base + "/blobs/" + blob
	}}
	return e, nil
}

// keychain looks up credentials for a host when they are needed.
func (o *Options) keychain(host string) func(ctx context.Context) (authn.AuthConfig, error) {
	k := o.Keychain
	if k == nil {
		k = authn.DefaultKeychain
	}
	return func(ctx context.Context) (authn.AuthConfig, error) {
		a, err := authn.Resolve(ctx, k, resource(host))
		if err != nil {
			return authn.AuthConfig{}, errors.New("docker's configuration or a credential helper: " + firstLine(err))
		}
		c, err := authn.Authorization(ctx, a)
		if err != nil {
			return authn.AuthConfig{}, errors.New("credential helper: " + firstLine(err))
		}
		return *c, nil
	}
}

// firstLine is the first line of an error, without what a credential helper
// printed: that may be a secret.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	s, _, _ = strings.Cut(s, ", out: `")
	return s
}

// resource is a registry as keychains look it up.
type resource string

func (r resource) String() string      { return string(r) }
func (r resource) RegistryStr() string { return string(r) }

// Where is the repository's full name.
func (b *Backend) Where() string { return b.where }

// Close closes connections that are not in use.
func (b *Backend) Close() error {
	for _, t := range b.idle {
		t.CloseIdleConnections()
	}
	return nil
}
