// Package httpdir has blobs in a directory of a web server: a blob is the
// file of its name below one URL.
package httpdir

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// Options of New. Zero values are the defaults.
type Options struct {
	URL    string      // of the directory; a user and password in it are sent as basic authentication
	Socket string      // path of a Unix socket to connect to in place of the URL's host
	Header http.Header // sent with each request, but not to where the server redirects
	TLS    backend.TLS
	Range  ranged.Options // time-outs

	// Wrap, if set, is put around the transport: a proxy.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Backend reads blobs from a web server. Its methods are safe for concurrent
// use.
type Backend struct {
	ranged.Bound
	transport *http.Transport
}

// New returns a backend for the blobs below a URL. It does no I/O.
func New(o Options) (*Backend, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("httpdir: not a URL by http or https")
	}
	t, err := backend.Transport(o.TLS)
	if err != nil {
		return nil, fmt.Errorf("httpdir %s: %w", u.Host, err)
	}
	if o.Socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", o.Socket)
		}
	}
	header := o.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if u.User != nil {
		pass, _ := u.User.Password()
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+pass)))
		u.User = nil
	}
	query := ""
	if u.RawQuery != "" {
		query = "?" + u.RawQuery
	}
	u.RawQuery, u.Fragment = "", ""
	base := strings.TrimSuffix(u.String(), "/") + "/"
	ro := o.Range
	ro.Where, ro.Header = base, header
	var rt http.RoundTripper = t
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	return &Backend{
		Bound:     ranged.Bound{Client: ranged.New(rt, ro), URL: func(blob string) string { return base + url.PathEscape(blob) + query }},
		transport: t,
	}, nil
}

// Close closes connections that are not in use.
func (b *Backend) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}
