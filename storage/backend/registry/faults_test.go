package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// fake is a registry with one blob that answers as a test wants.
type fake struct {
	*httptest.Server
	data  []byte
	blob  string
	asked atomic.Int64
}

// newFake starts a registry whose request number n, from 1, answer handles;
// it returns false to have it answered well. A nil answer does nothing.
func newFake(t *testing.T, answer func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool) *fake {
	f := &fake{data: bytes.Repeat([]byte("0123456789abcdef"), 4096)}
	sum := sha256.Sum256(f.data)
	f.blob = hex.EncodeToString(sum[:])
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer != nil && answer(f, w, r, f.asked.Add(1)) {
			return
		}
		f.serve(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// serve answers a request for the blob well.
func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, f.blob) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

// cutAfter sends the head of a right answer and n bytes of its body.
func (f *fake) cutAfter(w http.ResponseWriter, r *http.Request, n int) {
	rec := httptest.NewRecorder()
	f.serve(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes()[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// open returns the registry of f with retries that do not wait; slept is how
// long they would have.
func (f *fake) open(t *testing.T, change func(*Options)) (b storage.Backend, slept *atomic.Int64) {
	t.Helper()
	o := Options{Repository: host(f.Server) + "/some/repo", CertsDirs: noFiles, Keychain: authn.NewMultiKeychain()}
	if change != nil {
		change(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	slept = new(atomic.Int64)
	return backend.Retry(r, backend.RetryOptions{Tries: 4, Sleep: func(ctx context.Context, d time.Duration) error {
		slept.Add(int64(d))
		return ctx.Err()
	}}), slept
}

// status answers with a status.
func status(code int) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

func TestFaults(t *testing.T) {
	slow := func(o *Options) {
		o.Range = ranged.Options{Stall: 300 * time.Millisecond, HeaderTimeout: time.Second}
	}
	ranges := func(w http.ResponseWriter, s string) {
		w.Header().Set("Content-Range", s)
		w.WriteHeader(http.StatusPartialContent)
	}
	for _, c := range []struct {
		name   string
		answer func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool
		open   func(*Options)
		ok     bool  // the read succeeds
		is     error // what the error is
		asked  int64 // requests, 0 if it does not matter
	}{
		{name: "well", ok: true, asked: 1},
		{name: "body cut, then well: goes on at the cut", ok: true, asked: 2, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			if n == 1 {
				f.cutAfter(w, r, 10_000)
			}
			return n == 2 && r.Header.Get("Range") != "bytes=11000-40999" // not from the cut: 200 and empty
		}},
		{name: "body cut again and again", ok: true, asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			if n <= 3 {
				f.cutAfter(w, r, 5000)
			}
			return false
		}},
		{name: "cut before the first byte each time", asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			panic(http.ErrAbortHandler)
		}},
		{name: "Range ignored", ok: true, asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			w.Write(f.data)
			return true
		}},
		{name: "Range ignored, too far", open: func(o *Options) { o.Range.MaxSkip = 100 }, asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			w.Write(f.data)
			return true
		}},
		{name: "other range", asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			ranges(w, fmt.Sprintf("bytes 0-39999/%d", len(f.data)))
			w.Write(f.data[:40_000])
			return true
		}},
		{name: "partial content without saying which", asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(f.data)
			return true
		}},
		{name: "shorter range than asked for, then the rest", ok: true, asked: 2, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			if n == 1 {
				ranges(w, fmt.Sprintf("bytes 1000-1999/%d", len(f.data)))
				w.Write(f.data[1000:2000])
			}
			return n == 1
		}},
		{name: "longer body than asked for", ok: true, asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			ranges(w, fmt.Sprintf("bytes 1000-40999/%d", len(f.data)))
			w.(http.Flusher).Flush() // no Content-Length
			w.Write(f.data[1000:])
			return true
		}},
		{name: "silence, then well", open: slow, ok: true, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			if n == 1 {
				<-r.Context().Done()
			}
			return n == 1
		}},
		{name: "trickle", open: slow, asked: 0, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			ranges(w, fmt.Sprintf("bytes 1000-40999/%d", len(f.data)))
			for r.Context().Err() == nil {
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
			return true
		}},
		{name: "500 three times, then well", ok: true, asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			if n <= 3 {
				status(500)(w)
			}
			return n <= 3
		}},
		{name: "500 for ever", asked: 4, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			status(503)(w)
			return true
		}},
		{name: "403", is: fs.ErrPermission, asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			status(403)(w)
			return true
		}},
		{name: "404", is: fs.ErrNotExist, asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			status(404)(w)
			return true
		}},
		{name: "416", asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			status(416)(w)
			return true
		}},
		{name: "redirects in a circle", asked: 5, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}},
		{name: "redirect to another scheme", asked: 1, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
			return true
		}},
		{name: "not HTTP", asked: 0, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Write([]byte("SSH-2.0-OpenSSH\r\n"))
				c.Close()
			}
			return true
		}},
		{name: "reset", asked: 0, answer: func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.answer)
			b, _ := f.open(t, c.open)
			p := make([]byte, 40_000)
			err := b.ReadAt(t.Context(), f.blob, p, 1000)
			if (err == nil) != c.ok {
				t.Fatalf("read: got %v, want success %v", err, c.ok)
			}
			if c.ok && !bytes.Equal(p, f.data[1000:41_000]) {
				t.Error("read: other bytes than the blob's")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("read: got %v, want %v", err, c.is)
			}
			if n := f.asked.Load(); c.asked > 0 && c.answer != nil && n != c.asked {
				t.Errorf("requests: got %d, want %d", n, c.asked)
			}
		})
	}
}

func TestRetryAfterIsGranted(t *testing.T) {
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
		if n == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n == 1
	})
	b, slept := f.open(t, nil)
	if err := b.ReadAt(t.Context(), f.blob, make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if d := time.Duration(slept.Load()); d < 7*time.Second {
		t.Errorf("pause after 429 with Retry-After: 7: got %v", d)
	}
	f2 := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	b, slept = f2.open(t, nil)
	if err := b.ReadAt(t.Context(), f2.blob, make([]byte, 10), 0); err == nil || slept.Load() != 0 {
		t.Errorf("server that asks for a day: got %v after %v", err, time.Duration(slept.Load()))
	}
}

// tokens is a registry that wants tokens, and the server that gives them.
type tokens struct {
	*fake
	given  atomic.Int64
	good   atomic.Value // the token that is accepted, or ""
	life   int
	header atomic.Value // Authorization that the token server got
}

func newTokens(t *testing.T, life int) *tokens {
	k := &tokens{life: life}
	k.good.Store("")
	k.fake = newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
		if r.URL.Path == "/token" {
			k.header.Store(r.Header.Get("Authorization"))
			token := fmt.Sprintf("sekret%d", k.given.Add(1))
			if k.good.Load() != "never" {
				k.good.Store(token)
			}
			json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": k.life})
			return true
		}
		if r.Header.Get("Authorization") != "Bearer "+k.good.Load().(string) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="a, \"b\"",scope="repository:some/repo:pull"`, f.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	return k
}

func TestTokenIsRenewedWhenItIsRefused(t *testing.T) {
	k := newTokens(t, 3600)
	b, _ := k.open(t, func(o *Options) { o.Auth = &authn.AuthConfig{Username: "me", Password: "pass"} })
	read := func() error { return b.ReadAt(t.Context(), k.blob, make([]byte, 10), 0) }
	for range 3 {
		if err := read(); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.given.Load(); n != 1 {
		t.Errorf("tokens for three reads: got %d, want 1", n)
	}
	if k.header.Load() != "Basic bWU6cGFzcw==" {
		t.Errorf("token server got Authorization %q", k.header.Load())
	}
	k.good.Store("another") // it expires early
	if err := read(); err != nil || k.given.Load() != 2 {
		t.Errorf("read after the token ended: %v, %d tokens, want 2", err, k.given.Load())
	}
	k.good.Store("never")
	for range 10 {
		if err := read(); !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "sekret") {
			t.Fatalf("read with tokens that are refused: got %v", err)
		}
	}
	if n := k.given.Load(); n > 4 {
		t.Errorf("tokens asked for while all are refused: got %d, want at most 2 more than 2", n)
	}
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	k := newTokens(t, 100)
	u, _ := url.Parse(k.URL)
	now := time.Now()
	l := newLogin(http.DefaultTransport, &url.URL{Scheme: "http", Host: u.Host}, "some/repo",
		func(context.Context) (authn.AuthConfig, error) { return authn.AuthConfig{}, nil })
	l.now = func() time.Time { return now }
	get := func() int {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, k.URL+"/v2/some/repo/blobs/sha256:"+k.blob, nil)
		res, err := l.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for i, step := range []struct {
		after time.Duration
		given int64
	}{{0, 1}, {50 * time.Second, 1}, {35 * time.Second, 2}, {50 * time.Second, 2}, {300 * time.Second, 3}, {-time.Hour, 3}} {
		now = now.Add(step.after)
		asked := k.asked.Load()
		if code := get(); code != http.StatusPartialContent && code != http.StatusOK || k.given.Load() != step.given {
			t.Errorf("step %d: status %d, %d tokens, want %d", i, code, k.given.Load(), step.given)
		}
		if n := k.asked.Load() - asked; i > 0 && n > 2 {
			t.Errorf("step %d: %d requests, want no refusal", i, n)
		}
	}
}

func TestRealmsAndRedirectsThatAreNotFollowed(t *testing.T) {
	for realm, registry := range map[string]string{
		"http://auth.example.com/token":     "https://registry.example.com",
		"https://127.0.0.1/token":           "https://registry.example.com",
		"https://169.254.169.254/token":     "https://registry.example.com",
		"https://me:pass@auth.example.com/": "https://registry.example.com",
		"/token":                            "https://registry.example.com",
		"file:///etc/passwd":                "http://registry.example.com",
		"https://[::]/token":                "https://registry.example.com",
	} {
		u, _ := url.Parse(registry)
		if got, err := realmURL(realm, u); err == nil {
			t.Errorf("realm %s of %s: got %v, want an error", realm, registry, got)
		}
	}
	u, _ := url.Parse("https://index.docker.io")
	if _, err := realmURL("https://auth.docker.io/token", u); err != nil {
		t.Errorf("docker hub's realm: %v", err)
	}
}

func TestMirrorsFirstThenTheRegistry(t *testing.T) {
	origin := newFake(t, func(*fake, http.ResponseWriter, *http.Request, int64) bool { return false })
	var broken atomic.Int64
	mirror := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request, n int64) bool {
		if c := broken.Load(); c != 0 {
			w.WriteHeader(int(c))
			return true
		}
		if r.Header.Get("X-Mirror") != "yes" {
			t.Error("mirror got no header of its hosts.toml")
		}
		return false
	})
	dir := t.TempDir()
	name := strings.ReplaceAll(host(origin.Server), ":", "_") + "_"
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\"]\n[host.%q.header]\nX-Mirror = \"yes\"\n", origin.URL, mirror.URL, mirror.URL)
	if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := origin.open(t, func(o *Options) { o.CertsDirs = []string{dir} })
	read := func(ctx context.Context) {
		t.Helper()
		p := make([]byte, 100)
		if err := b.ReadAt(ctx, origin.blob, p, 50); err != nil || !bytes.Equal(p, origin.data[50:150]) {
			t.Fatalf("read: %v", err)
		}
	}
	check := func(what string, m, o int64) {
		t.Helper()
		if mirror.asked.Swap(0) != m || origin.asked.Swap(0) != o {
			t.Errorf("%s: other requests than %d to the mirror and %d to the registry", what, m, o)
		}
	}
	read(t.Context())
	check("well", 1, 0)
	read(storage.FromOrigin(t.Context()))
	check("from the origin", 0, 1)
	broken.Store(404)
	read(t.Context())
	check("blob not at the mirror", 1, 1)
	broken.Store(500)
	read(t.Context())
	check("mirror fails", 1, 1)
	read(t.Context())
	check("mirror failed just now", 0, 1)
}

func TestHostsInTheOrderOfTheFile(t *testing.T) {
	hosts, err := parseHosts([]byte(`
server = "https://registry.example.com"
[host."https://z.example.com"]
  ca = "z.pem"
[host."https://a.example.com/path"]
  capabilities = ["pull", "resolve"]
  override_path = true
  skip_verify = true
[host."https://push.example.com"]
  capabilities = ["push"]
[host."m.example.com"]
  client = [["cert.pem", "/key.pem"]]
`), "/certs", Host{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range hosts {
		got = append(got, h.URL.String())
	}
	want := "https://z.example.com/v2 https://a.example.com/path https://m.example.com/v2 https://registry.example.com/v2"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("hosts: got %s\nwant %s", s, want)
	}
	if hosts[0].TLS.CAFiles[0] != "/certs/z.pem" || !hosts[1].TLS.SkipVerify || hosts[2].TLS.Clients[0] != [2]string{"/certs/cert.pem", "/key.pem"} {
		t.Errorf("TLS: got %+v", hosts)
	}
}

func TestHostileManifestsAreRefused(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	layer := fmt.Sprintf(`{"digest":%q,"size":1}`, digest)
	for name, raw := range map[string]string{
		"no JSON":         "hello",
		"too large":       `{"layers":[` + strings.Repeat(" ", MaxManifest) + `]}`,
		"too many layers": `{"config":` + layer + `,"layers":[` + strings.Repeat(layer+",", maxLayers) + layer + `]}`,
		"media type":      fmt.Sprintf(`{"mediaType":"text/html","config":%s,"layers":[]}`, layer),
		"negative size":   fmt.Sprintf(`{"config":{"digest":%q,"size":-1},"layers":[]}`, digest),
		"digest a path":   `{"config":{"digest":"sha256:../../../../etc/passwd","size":1},"layers":[]}`,
		"no config":       `{"layers":[]}`,
	} {
		if m, err := ParseManifest([]byte(raw), ""); err == nil {
			t.Errorf("%s: got %+v, want an error", name, m)
		}
	}
	// An index that holds itself, as far as a registry can lie about digests.
	f := newFake(t, nil)
	index := []byte(`{"mediaType":"` + typeIndex + `","manifests":[` + layer + `]}`)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(index) })
	b, err := New(Options{Repository: host(f.Server) + "/some/repo", CertsDirs: noFiles})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Image(t.Context(), "latest", func(*Manifest) int { return 0 }); err == nil {
		t.Error("index in itself: got no error")
	}
}

func FuzzParseChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"`)
	f.Add(`Basic realm=x`)
	f.Add(`Bearer realm="\"`)
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := parseChallenge([]string{s}); ok && len(c.params) > maxParams {
			t.Errorf("%d parameters", len(c.params))
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"mediaType":"` + typeManifest + `","config":{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":2},"layers":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b, "")
		if err != nil {
			return
		}
		for _, l := range m.Layers {
			if l.Size < 0 || len(l.Digest) != 71 {
				t.Errorf("layer %+v", l)
			}
		}
	})
}

func FuzzParseHosts(f *testing.F) {
	f.Add([]byte("server = \"https://x\"\n[host.\"https://y\"]\ncapabilities=[\"pull\"]\nca=[\"a\",\"b\"]\n[host.\"https://y\".header]\nk=\"v\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		hosts, err := parseHosts(b, "/d", Host{})
		if err == nil && len(hosts) == 0 {
			t.Error("no hosts and no error")
		}
	})
}
