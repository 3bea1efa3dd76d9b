package httpproxy

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend/httpdir"
	"github.com/sluicefs/sluice/storage/storagetest"
)

// proxyServer is a forward proxy that counts, and can be told to fail.
type proxyServer struct {
	*httptest.Server
	served atomic.Int64
	broken atomic.Bool
	header atomic.Value
}

func newProxyServer(t *testing.T) *proxyServer {
	p := new(proxyServer)
	fwd := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.URL.Path == "/healthy" {
			return
		}
		p.served.Add(1)
		p.header.Store(r.Header.Get("X-Dragonfly-Tag"))
		fwd.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// through returns a backend for dir, served by a web server behind a proxy.
func through(t *testing.T, dir string, o Options) (*httpdir.Backend, *Proxy) {
	t.Helper()
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(srv.Close)
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	b, err := httpdir.New(httpdir.Options{URL: srv.URL, Wrap: p.Wrap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b, p
}

func TestConformance(t *testing.T) {
	srv := newProxyServer(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		dir := t.TempDir()
		b, _ := through(t, dir, Options{Proxy: srv.URL})
		return storagetest.Place{Backend: b, Put: storagetest.PutFile(dir)}
	})
	if srv.served.Load() == 0 {
		t.Error("requests through the proxy: got 0")
	}
}

func TestFallsBackWhileTheProxyFails(t *testing.T) {
	srv := newProxyServer(t)
	dir := t.TempDir()
	blob := storagetest.PutFile(dir)(t, []byte("contents"))
	b, p := through(t, dir, Options{Proxy: srv.URL, Pause: time.Hour, Header: http.Header{"X-Dragonfly-Tag": {"sluice"}}})
	read := func() {
		t.Helper()
		got := make([]byte, 8)
		if err := b.ReadAt(t.Context(), blob, got, 0); err != nil || string(got) != "contents" {
			t.Fatalf("read: got %q, %v", got, err)
		}
	}
	read()
	if h := srv.header.Load(); h != "sluice" || srv.served.Load() != 1 {
		t.Errorf("proxy: got %d requests with tag %v, want 1 with sluice", srv.served.Load(), h)
	}
	if err := b.ReadAt(storage.FromOrigin(t.Context()), blob, make([]byte, 8), 0); err != nil || srv.served.Load() != 1 {
		t.Errorf("read from the origin: got %v, and %d requests through the proxy, want 1", err, srv.served.Load())
	}
	srv.broken.Store(true)
	read()
	if p.Well() {
		t.Error("proxy that answered 502 is thought well")
	}
	srv.broken.Store(false)
	read()
	if srv.served.Load() != 1 {
		t.Error("proxy was used again before its pause was over")
	}
}

func TestPingBringsTheProxyBack(t *testing.T) {
	srv := newProxyServer(t)
	srv.broken.Store(true)
	_, p := through(t, t.TempDir(), Options{Proxy: srv.URL, Ping: srv.URL + "/healthy", CheckInterval: 10 * time.Millisecond, Pause: time.Hour})
	until(t, "the proxy is out of use", func() bool { return !p.Well() })
	srv.broken.Store(false)
	until(t, "the proxy is back", p.Well)
}

func TestNoFallback(t *testing.T) {
	srv := newProxyServer(t)
	dir := t.TempDir()
	blob := storagetest.PutFile(dir)(t, []byte("contents"))
	b, _ := through(t, dir, Options{Proxy: srv.URL, NoFallback: true})
	srv.broken.Store(true)
	if err := b.ReadAt(t.Context(), blob, make([]byte, 8), 0); err == nil {
		t.Error("read with a broken proxy and no fallback: got no error")
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for: %s", what)
		}
	}
}
