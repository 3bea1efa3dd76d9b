package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sluicefs/sluice/storage/storagetest"
)

// noFiles keeps a machine's own certs.d out of tests.
var noFiles = []string{}

// push puts a blob into the repository at base, "http://host/v2/path", in
// one request after the one that begins the upload.
func push(t *testing.T, base string, data []byte) string {
	t.Helper()
	res, err := http.Post(base+"/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	at, err := res.Request.URL.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatalf("begin upload: status %d, %v", res.StatusCode, err)
	}
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	q := at.Query()
	q.Set("digest", "sha256:"+id)
	at.RawQuery = q.Encode()
	send(t, http.MethodPut, at.String(), "application/octet-stream", data)
	return id
}

func send(t *testing.T, method, url, mediaType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		t.Fatalf("%s: status %d: %s", method, res.StatusCode, b)
	}
}

// inProcess starts go-containerregistry's registry.
func inProcess(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return srv
}

func host(srv *httptest.Server) string {
	u, _ := url.Parse(srv.URL)
	return u.Host
}

func TestConformanceInProcess(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		srv := inProcess(t)
		b, err := New(Options{Repository: host(srv) + "/some/repo", CertsDirs: noFiles})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return storagetest.Place{Backend: b, Put: func(t *testing.T, data []byte) string {
			return push(t, srv.URL+"/v2/some/repo", data)
		}}
	})
}

func TestManifestIsVerified(t *testing.T) {
	srv := inProcess(t)
	base := srv.URL + "/v2/some/repo"
	layer := push(t, base, []byte("layer"))
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":"sha256:%s","size":5},"layers":[{"mediaType":"y","digest":"sha256:%s","size":5,"annotations":{"a":"b"}}]}`, typeManifest, layer, layer)
	send(t, http.MethodPut, base+"/manifests/v1", typeManifest, raw)
	b, err := New(Options{Repository: host(srv) + "/some/repo", CertsDirs: noFiles})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	m, err := b.Image(t.Context(), "v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 1 || m.Layers[0].Annotations["a"] != "b" {
		t.Errorf("layers: got %+v", m.Layers)
	}
	if again, err := b.Manifest(t.Context(), m.Digest); err != nil || !bytes.Equal(again.Raw, raw) {
		t.Errorf("by digest: got %v", err)
	}
	if p, err := b.Blob(t.Context(), m.Layers[0], 10); err != nil || string(p) != "layer" {
		t.Errorf("blob: got %q, %v", p, err)
	}
	if _, err := b.Blob(t.Context(), m.Layers[0], 4); err == nil {
		t.Error("blob above the limit: got no error")
	}
	if _, err := b.Manifest(t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("tag that is not there: got %v", err)
	}
}
