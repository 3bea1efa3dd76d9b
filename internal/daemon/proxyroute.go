package daemon

import (
	"net/http"
	"sync"

	"github.com/sluicefs/sluice/storage/backend/httpproxy"
)

// proxyRoute is the proxy that a backend's requests go through, which can be
// another one from one request to the next, or none.
type proxyRoute struct {
	mu  sync.Mutex
	now *httpproxy.Proxy
	url string
}

// current returns the proxy, or nil.
func (r *proxyRoute) current() *httpproxy.Proxy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// set makes p the proxy, and closes the one before. Requests under way end as
// they began.
func (r *proxyRoute) set(p *httpproxy.Proxy, url string) {
	r.mu.Lock()
	old := r.now
	r.now, r.url = p, url
	r.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// Close closes the proxy.
func (r *proxyRoute) Close() error {
	r.set(nil, "")
	return nil
}

// wrap makes a transport that goes through the proxy as it is then.
func (r *proxyRoute) wrap(direct http.RoundTripper) http.RoundTripper {
	return &routed{route: r, direct: direct}
}

// routed is a transport before direct.
type routed struct {
	route  *proxyRoute
	direct http.RoundTripper

	mu      sync.Mutex
	proxy   *httpproxy.Proxy // that wrapped is of
	wrapped http.RoundTripper
}

// RoundTrip sends a request.
func (t *routed) RoundTrip(req *http.Request) (*http.Response, error) {
	p := t.route.current()
	if p == nil {
		return t.direct.RoundTrip(req)
	}
	t.mu.Lock()
	if t.proxy != p {
		t.proxy, t.wrapped = p, p.Wrap(t.direct)
	}
	through := t.wrapped
	t.mu.Unlock()
	return through.RoundTrip(req)
}
