package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/httpdir"
	"github.com/sluicefs/sluice/storage/backend/httpproxy"
	"github.com/sluicefs/sluice/storage/backend/localdisk"
	"github.com/sluicefs/sluice/storage/backend/localfs"
	"github.com/sluicefs/sluice/storage/backend/ranged"
	"github.com/sluicefs/sluice/storage/backend/registry"
	"github.com/sluicefs/sluice/storage/backend/s3"
)

// backend makes the backend that the configuration names, with retries.
func (c *nydusConfig) backend(log *slog.Logger) (storage.Backend, error) {
	b := &c.Backend
	switch c.Type { // without a network
	case "localfs":
		return b.local()
	case "localdisk":
		return localdisk.Open(b.DevicePath, localdisk.Options{Raw: b.DisableGPT})
	}
	proxy, err := b.proxy(b.Proxy.URL)
	if err != nil {
		return nil, err
	}
	c.route.set(proxy, b.Proxy.URL)
	wrap := c.route.wrap
	tls := backend.TLS{SkipVerify: b.SkipVerify, CAFiles: b.CACertFiles}
	times := ranged.Options{HeaderTimeout: time.Duration(b.Timeout) * time.Second}
	var be storage.Backend
	switch c.Type {
	case "registry":
		if b.Host == "" || b.Repo == "" {
			err = errors.New("backend registry: host and repo are needed")
			break
		}
		be, err = registry.New(registry.Options{
			Repository: b.Host + "/" + b.Repo, PlainHTTP: b.Scheme == "http", TLS: tls,
			Keychain: c, Range: times, Wrap: wrap,
		})
	case "oss", "s3":
		style := s3.Auto
		if c.Type == "oss" {
			style = s3.VirtualHost
		}
		be, err = s3.New(s3.Options{
			Endpoint: b.Endpoint, Bucket: b.BucketName, Prefix: b.ObjectPrefix, Region: b.Region,
			AccessKey: b.AccessKeyID, SecretKey: b.AccessKeySecret, Style: style,
			PlainHTTP: b.Scheme == "http", TLS: tls, Range: times, Wrap: wrap,
		})
	case "http-proxy":
		be, err = b.httpProxy(tls, times, wrap)
	default:
		err = fmt.Errorf("backend type %q is unknown: registry, oss, s3, http-proxy, localfs or localdisk", c.Type)
	}
	if err != nil {
		return nil, errors.Join(err, c.route.Close())
	}
	return &closing{
		Backend: backend.Outage(backend.Retry(be, backend.RetryOptions{Tries: max(b.RetryLimit, 3)}), backend.OutageError, backend.OutageOptions{Log: log}),
		inner:   be, route: &c.route,
	}, nil
}

// closing closes the backend that decorators stand before.
type closing struct {
	storage.Backend
	inner storage.Backend
	route *proxyRoute
}

// Close closes the innermost backend, and ends the pings of its proxy.
func (c *closing) Close() error {
	c.route.Close()
	if cl, ok := c.inner.(interface{ Close() error }); ok {
		return cl.Close()
	}
	return nil
}

// proxy returns the proxy at an address, nil for none.
func (b *backendConfig) proxy(address string) (*httpproxy.Proxy, error) {
	if address == "" {
		return nil, nil
	}
	return httpproxy.New(httpproxy.Options{
		Proxy: address, Ping: b.Proxy.PingURL,
		NoFallback: b.Proxy.Fallback != nil && !*b.Proxy.Fallback, PlainHTTP: b.Proxy.UseHTTP,
		CheckInterval: time.Duration(b.Proxy.CheckInterval) * time.Second,
		Pause:         time.Duration(b.Proxy.CheckPause) * time.Second,
		TLS:           backend.TLS{SkipVerify: b.SkipVerify, CAFiles: b.CACertFiles},
	})
}

// setProxy has requests go through another proxy from now on; "" is none.
func (c *nydusConfig) setProxy(address string) error {
	switch c.Type {
	case "localfs", "localdisk":
		return fmt.Errorf("a backend of type %s has no proxy", c.Type)
	}
	p, err := c.Backend.proxy(address)
	if err == nil {
		c.route.set(p, address)
	}
	return err
}

func (b *backendConfig) httpProxy(tls backend.TLS, times ranged.Options, wrap func(http.RoundTripper) http.RoundTripper) (storage.Backend, error) {
	o := httpdir.Options{TLS: tls, Range: times, Wrap: wrap}
	if strings.HasPrefix(b.Addr, "/") {
		o.Socket, o.URL = b.Addr, "http://localhost"
	} else {
		o.URL = b.Addr
	}
	if o.URL == "" {
		return nil, errors.New("backend http-proxy: addr is needed")
	}
	o.URL = strings.TrimSuffix(o.URL, "/") + "/" + strings.Trim(b.Path, "/")
	return httpdir.New(o)
}

func (b *backendConfig) local() (storage.Backend, error) {
	if b.BlobFile != "" {
		return newOneFile(b.BlobFile)
	}
	if b.Dir == "" {
		return nil, errors.New("backend localfs: dir or blob_file is needed")
	}
	return localfs.New(append([]string{b.Dir}, b.AltDirs...)...)
}

// oneFile has one file for whatever blob is asked for.
type oneFile struct{ f *os.File }

func newOneFile(name string) (*oneFile, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	return &oneFile{f}, nil
}

func (o *oneFile) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	if _, err := o.f.ReadAt(p, off); err != nil {
		return fmt.Errorf("blob %s: %w", blob, err)
	}
	return nil
}

func (o *oneFile) Size(context.Context, string) (int64, error) {
	fi, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (o *oneFile) Close() error { return o.f.Close() }

// Resolve is that of an authn.Keychain: the credentials of the configuration,
// those that were set while running first, then docker's configuration.
func (c *nydusConfig) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if c.credentials() == (authn.AuthConfig{}) {
		return authn.DefaultKeychain.Resolve(r)
	}
	return c, nil
}

// Authorization is that of an authn.Authenticator.
func (c *nydusConfig) Authorization() (*authn.AuthConfig, error) {
	a := c.credentials()
	return &a, nil
}

// setAuth replaces the credentials of the registry: base64 of user:password.
func (c *nydusConfig) setAuth(auth string) error {
	if _, err := splitAuth(auth); err != nil {
		return err
	}
	c.mu.Lock()
	c.auth = auth
	c.mu.Unlock()
	return nil
}

func (c *nydusConfig) credentials() authn.AuthConfig {
	c.mu.Lock()
	auth := c.auth
	c.mu.Unlock()
	if auth == "" {
		auth = c.Backend.Auth
	}
	if a, err := splitAuth(auth); err == nil && auth != "" {
		return a
	}
	return authn.AuthConfig{RegistryToken: c.Backend.RegistryToken}
}

// splitAuth decodes base64 of user:password.
func splitAuth(auth string) (authn.AuthConfig, error) {
	b, err := base64.StdEncoding.DecodeString(auth)
	if err != nil {
		return authn.AuthConfig{}, errors.New("registry auth is not base64")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return authn.AuthConfig{}, errors.New("registry auth is not user:password")
	}
	return authn.AuthConfig{Username: user, Password: password}, nil
}
