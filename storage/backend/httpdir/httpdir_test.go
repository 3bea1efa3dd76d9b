package httpdir

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		dir := t.TempDir()
		srv := httptest.NewServer(http.StripPrefix("/blobs/", http.FileServer(http.Dir(dir))))
		t.Cleanup(srv.Close)
		b, err := New(Options{URL: srv.URL + "/blobs"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return storagetest.Place{Backend: b, Put: storagetest.PutFile(dir)}
	})
}

func TestConformanceOnASocket(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		dir := t.TempDir()
		srv := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
		socket := filepath.Join(t.TempDir(), "s")
		l, err := listenUnix(socket)
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener.Close()
		srv.Listener = l
		srv.Start()
		t.Cleanup(srv.Close)
		b, err := New(Options{URL: "http://proxy/", Socket: socket})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return storagetest.Place{Backend: b, Put: storagetest.PutFile(dir)}
	})
}

func TestCredentialsStayWithTheirServer(t *testing.T) {
	dir := t.TempDir()
	blob := storagetest.PutFile(dir)(t, []byte("contents"))
	var leaked bool
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = leaked || r.Header.Get("Authorization") != "" || r.Header.Get("X-Key") != ""
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	defer store.Close()
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if u, p, _ := r.BasicAuth(); u != "me" || p != "secret" || r.Header.Get("X-Key") != "key" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.Redirect(w, r, store.URL+r.URL.Path+"?signature=sekret", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	u.User = url.UserPassword("me", "secret")
	b, err := New(Options{URL: u.String(), Header: http.Header{"X-Key": {"key"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := make([]byte, 8)
	for range 3 {
		if err := b.ReadAt(t.Context(), blob, p, 0); err != nil || string(p) != "contents" {
			t.Fatalf("read: got %q, %v", p, err)
		}
	}
	if leaked {
		t.Error("the store that a redirect leads to got the server's credentials")
	}
	if asked != 1 {
		t.Errorf("requests to the server for three reads: got %d, want 1: the redirect is remembered", asked)
	}
	store.Close()
	srv.Close()
	err = b.ReadAt(t.Context(), blob, p, 0)
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sekret") {
		t.Errorf("error of a read without servers: got %v, want one without secrets", err)
	}
}
