package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// serve answers on a unix socket with h, and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	c := Dial(path)
	t.Cleanup(c.Close)
	return c
}

func TestClientAsks(t *testing.T) {
	var got []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		switch r.URL.Path {
		case "/v1/daemon":
			io.WriteString(w, `{"pid": 7}`)
		case "/v1/mounts":
			io.WriteString(w, `[{"path": "/a"}]`)
		case "/v1/caches/trim":
			io.WriteString(w, `{"freed_bytes": 9}`)
		case "/v1/profile":
			io.WriteString(w, "profile")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	ctx := t.Context()
	if d, err := c.Daemon(ctx); err != nil || d.PID != 7 {
		t.Errorf("Daemon: %+v, %v", d, err)
	}
	if ms, err := c.Mounts(ctx); err != nil || len(ms) != 1 || ms[0].Path != "/a" {
		t.Errorf("Mounts: %+v, %v", ms, err)
	}
	if v, err := c.Trim(ctx, Trim{Bytes: 5}); err != nil || v.FreedBytes != 9 {
		t.Errorf("Trim: %+v, %v", v, err)
	}
	if b, err := c.Profile(ctx, "/a b"); err != nil || string(b) != "profile" {
		t.Errorf("Profile: %q, %v", b, err)
	}
	if err := errors.Join(
		c.PutMount(ctx, "/a b/?c", MountRequest{Source: "s"}, true), c.DeleteMount(ctx, "x", true), c.SetLog(ctx, "debug"), c.Stop(ctx),
	); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET /v1/daemon", "GET /v1/mounts", `POST /v1/caches/trim {"bytes":5}`, "GET /v1/profile?path=%2Fa+b",
		`PUT /v1/mounts/a%20b/%3Fc?replace=1 {"source":"s"}`, "DELETE /v1/mounts/x?lazy=1", `PUT /v1/log {"level":"debug"}`, "POST /v1/daemon/stop",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("asked:\n%s\nwant:\n%s", g, w)
	}
}

func TestClientErrors(t *testing.T) {
	answers := map[string]struct {
		status int
		body   string
		say    string
	}{
		"/v1/daemon":    {409, `{"code": "WrongState", "message": "is stopping"}`, "is stopping"},
		"/v1/mounts":    {502, "<html>", "502 Bad Gateway"},
		"/v1/requests":  {200, "[{", "answer: unexpected EOF"},
		"/v1/latencies": {404, `{}`, "404 Not Found"},
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		a := answers[r.URL.Path]
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	})
	for path, a := range answers {
		err := c.Do(t.Context(), http.MethodGet, path, nil, new(any))
		if err == nil || !strings.Contains(err.Error(), a.say) {
			t.Errorf("%s: got %v, want %q in it", path, err, a.say)
		}
		var e *Error
		if errors.As(err, &e) != (a.status >= 300) || e != nil && e.Status != a.status {
			t.Errorf("%s: got %#v, want status %d", path, err, a.status)
		}
	}
	if err := c.Do(t.Context(), "GET", "/v1/daemon", make(chan int), nil); err == nil {
		t.Error("what is no JSON was sent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got %v", err)
	}
	nobody := Dial(filepath.Join(t.TempDir(), "none"))
	if _, err := nobody.Daemon(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a daemon: got %v", err)
	}
}

func TestDialURL(t *testing.T) {
	for _, bad := range []string{"", "host:9010", "ftp://host", "https://", "https://host/path", "http://[::1", "https://user:secret@/"} {
		if _, err := DialURL(bad, "", nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want an error without the password", bad, err)
		}
	}
	var header, moved string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { moved = r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer s.Close()
	c, err := DialURL(s.URL, "token", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Stop(t.Context()); err == nil || header != "Bearer token" || moved != "" {
		t.Errorf("redirected: got %v, the daemon saw %q, the other %q", err, header, moved)
	}
}
