package cache

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/httpdir"
)

// away is a web server with a directory that can be away and come back at
// the same address.
type away struct {
	t    *testing.T
	dir  string
	addr string
	srv  *httptest.Server
}

func (a *away) start() {
	a.t.Helper()
	if a.addr == "" {
		a.addr = "127.0.0.1:0"
	}
	var l net.Listener
	until(a.t, "the address is free again", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", a.addr)
		return err == nil
	})
	a.addr = l.Addr().String()
	a.srv = httptest.NewUnstartedServer(http.FileServer(http.Dir(a.dir)))
	a.srv.Listener.Close()
	a.srv.Listener = l
	a.srv.Start()
	a.t.Cleanup(a.srv.Close)
}

func (a *away) stop() {
	a.srv.CloseClientConnections()
	a.srv.Close()
}

func (a *away) backend() *httpdir.Backend {
	a.t.Helper()
	b, err := httpdir.New(httpdir.Options{URL: "http://" + a.addr})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { b.Close() })
	return b
}

// TestOutage: while the origin is away what is cached is served, the rest
// waits or fails by policy, a reader can give up, and when the origin is back
// all goes on without a restart.
func TestOutage(t *testing.T) {
	b := newTestBlob(1, 30, 9000, storage.Zstd, true)
	a := &away{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(a.dir, b.blob.ID), b.stored, 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	retry := backend.RetryOptions{Tries: 2, Pause: time.Millisecond}
	waits := backend.Outage(backend.Retry(a.backend(), retry), backend.OutageWait, backend.OutageOptions{Pause: 5 * time.Millisecond, Log: quiet})
	fails := backend.Outage(backend.Retry(a.backend(), retry), backend.OutageError, backend.OutageOptions{Log: quiet})
	// Two directories: in one a reader that fails would end the wait of the
	// other, which begins the fetch again.
	_, waiting := openTest(t, t.TempDir(), Options{}, waits, ReaderOptions{Window: -1})
	_, failing := openTest(t, t.TempDir(), Options{}, fails, ReaderOptions{Window: -1})
	cached, cachedWant := b.file(0, 10)
	read(t, waiting, cached, cachedWant)
	read(t, failing, cached, cachedWant)
	waiting.settle()
	failing.settle()
	before := runtime.NumGoroutine()

	a.stop()
	read(t, waiting, cached, cachedWant)
	read(t, failing, cached, cachedWant)
	ext, want := b.file(20, 21)
	var ce *ChunkError
	if err := failing.ReadExtents(t.Context(), make([]byte, len(want)), ext); !errors.As(err, &ce) || ce.Op != "fetch" {
		t.Errorf("policy error: got %v, want a ChunkError", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := waiting.ReadExtents(ctx, make([]byte, len(want)), ext); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("policy wait, and a reader that gives up: got %v", err)
	}
	got := make([]byte, len(want))
	done := make(chan error, 1)
	go func() { done <- waiting.ReadExtents(t.Context(), got, ext) }()
	until(t, "the read waits", func() bool { return waiting.Stats().Requests >= 2 })
	read(t, waiting, cached, cachedWant) // which does not stop the others
	select {
	case err := <-done:
		t.Errorf("policy wait: got %v while the origin was away", err)
	default:
	}

	a.start()
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Errorf("policy wait: got %v when the origin was back", err)
	}
	all, allWant := b.file(0, 30)
	read(t, waiting, all, allWant)
	read(t, failing, all, allWant)
	waiting.settle()
	failing.settle()
	until(t, "no goroutine is left of the outage", func() bool { return runtime.NumGoroutine() <= before+8 }) // connections have two each
}
