package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage/cache"
)

// sociRegistry serves a layout as host/app: an image of a layer that the SOCI
// index knows and of a small one that it does not.
type sociRegistry struct {
	layout           string
	image, referrers []byte
	fallback         string // tag that stands for the referrers API; "" has it
	layer            string // path of the layer that is to stay where it is
	bytes            atomic.Int64
}

func (p *sociRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/app/"), "/")
	switch {
	case kind == "manifests" && name == "latest":
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		w.Write(p.image)
	case kind == "referrers" && p.fallback == "", kind == "manifests" && p.fallback != "" && name == p.fallback:
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		w.Write(p.referrers)
	case kind == "manifests" && strings.HasPrefix(name, "sha256:"), kind == "blobs":
		if strings.HasSuffix(name, p.layer) {
			w = &countBody{w, &p.bytes}
		}
		http.ServeFile(w, r, filepath.Join(p.layout, "blobs", "sha256", strings.TrimPrefix(name, "sha256:")))
	default:
		http.NotFound(w, r)
	}
}

type countBody struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countBody) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

func sociTestdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "image", "estargz", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(z)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newSOCIRegistry(t *testing.T, second bool) (*sociRegistry, v1.Hash) {
	t.Helper()
	layout := t.TempDir()
	low := putBlob(t, layout, sociTestdata(t, "soci-layer.tar.gz"), types.OCILayer)
	high := putBlob(t, layout, tarOf(t, zstded, map[string]string{"etc/new": "new"}), types.OCILayerZStd)
	table := putBlob(t, layout, unzip(t, sociTestdata(t, "soci-gzip.ztoc.gz")), sociTableType)
	table.Annotations = map[string]string{sociLayer: low.Digest.String()}
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{low, high},
		Config: putJSON(t, layout, v1.ConfigFile{OS: "linux"}, types.OCIConfigJSON),
	}
	index := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{table},
		Config: putBlob(t, layout, []byte("{}"), sociType),
	}
	if second {
		d := putJSON(t, layout, index, types.OCIManifestSchema1)
		manifest.Annotations = map[string]string{sociInImage: d.Digest.String()}
	}
	d := putJSON(t, layout, manifest, types.OCIManifestSchema1)
	p := &sociRegistry{layout: layout, layer: low.Digest.Hex, referrers: []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)}
	if !second {
		index.Subject = &d
		of := putJSON(t, layout, index, types.OCIManifestSchema1)
		p.referrers = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"artifactType":%q,"digest":%q,"size":%d}]}`,
			types.OCIImageIndex, types.OCIManifestSchema1, sociType, of.Digest, of.Size)
	}
	var err error
	if p.image, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	return p, d.Digest
}

// readThrough reads a file of an image through a cache without a disk.
func readThrough(t *testing.T, i *Image, path string) string {
	t.Helper()
	store, err := cache.Open("", cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := store.Reader(i.Backend, cache.ReaderOptions{Window: -1})
	defer r.Close()
	nid, err := image.Find(i.Tree, path)
	if err != nil {
		t.Fatal(err)
	}
	return string(readFile(t, i.Tree, r, nid))
}

func TestSOCIIndexMakesAPlainImageLazy(t *testing.T) {
	for _, c := range []struct {
		name             string
		second, fallback bool
		pinned           bool
		whole            bool
	}{
		{name: "referrers API"},
		{name: "fallback tag", fallback: true},
		{name: "named by the image", second: true},
		{name: "named by the image, which is pinned", second: true, pinned: true},
		{name: "a referrer of a pinned image is not believed", pinned: true, whole: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, digest := newSOCIRegistry(t, c.second)
			if c.fallback {
				p.fallback = "sha256-" + digest.Hex
			}
			name := serveHTTP(t, p) + "/app:latest"
			if c.pinned {
				name = strings.TrimSuffix(name, ":latest") + "@" + digest.String()
			}
			ref, err := Parse("docker://"+name, Auto)
			if err != nil {
				t.Fatal(err)
			}
			o := Options{CacheDir: t.TempDir(), CertsDirs: []string{}}
			for range 2 {
				before := p.bytes.Load()
				i, err := OpenImage(t.Context(), ref, o)
				if err != nil {
					t.Fatal(err)
				}
				if got := readThrough(t, i, "usr/small"); got != "small" {
					t.Errorf("usr/small: %q", got)
				}
				if got := readThrough(t, i, "etc/new"); got != "new" {
					t.Errorf("etc/new: %q", got)
				}
				n := p.bytes.Load() - before
				if i.Whole != c.whole || !c.whole && (n == 0 || n > 30000) {
					t.Errorf("whole %v, %d bytes of the layer fetched", i.Whole, n)
				}
				i.Close()
			}
		})
	}
}

func TestDamagedSOCIIndexIsPassedOver(t *testing.T) {
	p, _ := newSOCIRegistry(t, false)
	blobs, _ := os.ReadDir(filepath.Join(p.layout, "blobs", "sha256"))
	for _, e := range blobs { // the table is another one
		path := filepath.Join(p.layout, "blobs", "sha256", e.Name())
		if fi, err := e.Info(); err == nil && fi.Size() > 90000 {
			if err := os.WriteFile(path, make([]byte, fi.Size()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	ref, err := Parse("docker://"+serveHTTP(t, p)+"/app:latest", Auto)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	i, err := OpenImage(t.Context(), ref, Options{
		CacheDir: t.TempDir(), CertsDirs: []string{},
		Warn: func(f string, args ...any) { said = append(said, fmt.Sprintf(f, args...)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if got := readThrough(t, i, "usr/small"); got != "small" || !i.Whole {
		t.Errorf("usr/small: %q, whole %v", got, i.Whole)
	}
	if len(said) != 2 || !strings.Contains(said[0], "SOCI index is of no use") {
		t.Errorf("said %q", said)
	}
}
