// Package httpproxy sends a backend's requests through an HTTP proxy that
// keeps blobs near, such as the one of Dragonfly, and past it when it is
// away: [New] gives what goes around the transport of a backend, its Wrap
// option.
package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
)

// Options of New. Zero values are the defaults.
type Options struct {
	Proxy         string        // URL of the proxy, required
	Ping          string        // URL that answers 200 while the proxy is well; default none: it is thought well
	NoFallback    bool          // fail when the proxy is away, rather than go to the origin
	PlainHTTP     bool          // ask the proxy for http:// URLs of hosts that speak TLS: it then sees, and can keep, what it brings
	CheckInterval time.Duration // between two pings while the proxy is used; default 5 s
	Pause         time.Duration // how long the proxy is left alone after it failed; default 10 s
	Header        http.Header   // sent through the proxy with each request, as Dragonfly's X-Dragonfly-…
	TLS           backend.TLS   // of the proxy, and of hosts reached through it
}

// Proxy is a proxy with its health. It is shared by the backends that use
// it.
type Proxy struct {
	o       Options
	through *http.Transport
	direct  *http.Transport // for pings

	downUntil atomic.Int64 // Unix nanoseconds
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// New returns a proxy, which is pinged, if it can be, until Close.
func New(o Options) (*Proxy, error) {
	u, err := url.Parse(o.Proxy)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("proxy: not a URL by http or https")
	}
	if o.CheckInterval <= 0 {
		o.CheckInterval = 5 * time.Second
	}
	if o.Pause <= 0 {
		o.Pause = 10 * time.Second
	}
	p := &Proxy{o: o}
	if p.through, err = backend.Transport(o.TLS); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", u.Host, err)
	}
	if p.direct, err = backend.Transport(o.TLS); err != nil {
		return nil, err
	}
	p.through.Proxy = http.ProxyURL(u)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	if o.Ping != "" {
		p.wg.Go(func() { p.check(ctx) })
	}
	return p, nil
}

// Close ends the pings and closes connections that are not in use.
func (p *Proxy) Close() error {
	p.stop()
	p.wg.Wait()
	p.through.CloseIdleConnections()
	p.direct.CloseIdleConnections()
	return nil
}

// check pings the proxy now and then, and keeps it out of use until it
// answers.
func (p *Proxy) check(ctx context.Context) {
	t := time.NewTicker(p.o.CheckInterval)
	defer t.Stop()
	for {
		if p.ping(ctx) {
			p.downUntil.Store(0)
		} else if ctx.Err() == nil {
			p.downUntil.Store(time.Now().Add(p.o.CheckInterval + p.o.Pause).UnixNano())
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Proxy) ping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, p.o.CheckInterval)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.o.Ping, nil)
	if err != nil {
		return false
	}
	res, err := p.direct.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode >= 200 && res.StatusCode < 300
}

// Well reports whether requests go through the proxy now.
func (p *Proxy) Well() bool { return time.Now().UnixNano() >= p.downUntil.Load() }

// Wrap returns a transport that sends requests through the proxy while it is
// well, and else by direct. A read with [storage.FromOrigin] goes direct.
func (p *Proxy) Wrap(direct http.RoundTripper) http.RoundTripper {
	return &transport{p, direct}
}

type transport struct {
	p      *Proxy
	direct http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	p := t.p
	if storage.IsFromOrigin(req.Context()) || !p.o.NoFallback && !p.Well() {
		return t.direct.RoundTrip(req)
	}
	res, err := p.through.RoundTrip(p.prepare(req))
	if p.o.NoFallback || req.Context().Err() != nil {
		return res, err
	}
	switch {
	case err != nil:
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode >= 500:
		res.Body.Close()
	default:
		return res, nil
	}
	p.downUntil.Store(time.Now().Add(p.o.Pause).UnixNano())
	return t.direct.RoundTrip(req)
}

// prepare is the request as the proxy gets it.
func (p *Proxy) prepare(req *http.Request) *http.Request {
	if len(p.o.Header) == 0 && (!p.o.PlainHTTP || req.URL.Scheme != "https") {
		return req
	}
	r := req.Clone(req.Context())
	for k, v := range p.o.Header {
		r.Header[k] = v
	}
	if p.o.PlainHTTP {
		r.URL.Scheme = "http"
	}
	return r
}
