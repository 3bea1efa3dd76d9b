package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Which files were read is told in nydusd's words.
func TestIntegrationAccessPattern(t *testing.T) {
	img := makeImage(t, 31)
	img.config = strings.Replace(img.config, `"mode": "direct"`, `"mode": "direct", "iostats_files": true, "access_pattern": true, "latest_read_files": true, "amplify_io": 0`, 1)
	socket := run(t, Options{OpenLess: true}, RunOptions{Specs: []Spec{img.spec("/")}})
	mnt := os.Getenv("SLUICE_TEST_MOUNT")
	if _, err := os.ReadFile(mnt + "/dir2/file"); err != nil {
		t.Fatal(err)
	}
	var pattern []nydusAccess
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics/pattern", nil), &pattern); err != nil {
		t.Fatal(err)
	}
	if len(pattern) != 1 || pattern[0].Reads == 0 || pattern[0].Secs == 0 {
		t.Fatalf("pattern: %+v", pattern)
	}
	var files map[uint64]nydusFile
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics/files", nil), &files); err != nil {
		t.Fatal(err)
	}
	if f := files[pattern[0].Ino]; len(files) != 1 || f.Read < 300_000 || f.Hits[4] != f.Fops {
		t.Errorf("files: %+v", files)
	}
	for _, n := range []int{1, 0} { // told once
		var latest [][2]uint64
		if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics/files?latest=true", nil), &latest); err != nil || len(latest) != n {
			t.Errorf("latest: %v, %v, want %d", latest, err, n)
		}
	}
}

// The proxy of a registry is changed while its image is mounted.
func TestIntegrationHotProxy(t *testing.T) {
	img := makeImage(t, 32)
	var c struct {
		Device struct {
			Backend struct{ Config struct{ Dir string } }
		}
	}
	if err := json.Unmarshal([]byte(img.config), &c); err != nil {
		t.Fatal(err)
	}
	blob := func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(c.Device.Backend.Config.Dir, path.Base(r.URL.Path)))
	}
	var direct, proxied atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { direct.Add(1); blob(w, r) }))
	defer origin.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proxied.Add(1); blob(w, r) }))
	defer proxy.Close()
	img.config = fmt.Sprintf(`{"device": {"backend": {"type": "http-proxy", "config": {"addr": %q, "path": "/blobs"}},
		"cache": {"type": "blobcache", "config": {"work_dir": %q}}}, "mode": "direct", "amplify_io": 0}`, origin.URL, t.TempDir())
	socket := run(t, Options{OpenLess: true}, RunOptions{Specs: []Spec{img.spec("/")}})
	mnt := os.Getenv("SLUICE_TEST_MOUNT")
	read := func(name string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(mnt, name)); err != nil || string(b) != string(img.files[name]) {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	read("dir1/file")
	if direct.Load() == 0 || proxied.Load() != 0 {
		t.Errorf("at first: %d direct, %d by the proxy", direct.Load(), proxied.Load())
	}
	want(t, 204, socket, "PUT", "/api/v1/config", map[string]string{"proxy_url": proxy.URL})
	before := direct.Load()
	read("dir3/file")
	if proxied.Load() == 0 || direct.Load() != before {
		t.Errorf("with the proxy: %d more direct, %d by the proxy", direct.Load()-before, proxied.Load())
	}
	if got := string(want(t, 200, socket, "GET", "/api/v1/config", nil)); !strings.Contains(got, proxy.URL) {
		t.Errorf("configuration: %s", got)
	}
	want(t, 400, socket, "PUT", "/api/v1/config", map[string]string{"proxy_url": "::"})
	want(t, 204, socket, "PUT", "/api/v1/config", map[string]string{"proxy_url": ""})
	before = proxied.Load()
	read("dir2/file")
	if proxied.Load() != before {
		t.Error("a proxy that was taken away is used")
	}
}
