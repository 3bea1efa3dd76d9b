package source

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/storage/cache"
)

// putBlob writes a blob of a layout and returns its descriptor.
func putBlob(t *testing.T, layout string, b []byte, media types.MediaType) v1.Descriptor {
	t.Helper()
	h, err := v1.NewHash(imagetest.Digest(b))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, h.Hex), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: media, Digest: h, Size: int64(len(b))}
}

func putJSON(t *testing.T, layout string, v any, media types.MediaType) v1.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return putBlob(t, layout, b, media)
}

func TestPlainImageWithTablesOfContentsIsLazy(t *testing.T) {
	text := strings.Repeat("lazily ", 5000)
	layout := t.TempDir()
	low, notes := imagetest.Stargz(t, []imagetest.LayerFile{
		{TOCEntry: imagetest.TOCEntry{"name": "etc/text", "type": "reg", "mode": 0o644}, Data: []byte(text)},
		{TOCEntry: imagetest.TOCEntry{"name": "etc/small", "type": "reg", "mode": 0o600, "share": true}, Data: []byte("small")},
	})
	first := putBlob(t, layout, low, types.OCILayer)
	first.Annotations = notes
	high, notes := imagetest.Chunked(t, []imagetest.LayerFile{
		{TOCEntry: imagetest.TOCEntry{"name": "etc/new", "type": "reg", "mode": 0o644}, Data: []byte("new")},
	})
	second := putBlob(t, layout, high, types.OCILayerZStd)
	second.Annotations = notes
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{first, second},
		Config: putJSON(t, layout, v1.ConfigFile{OS: "linux", Config: v1.Config{Cmd: []string{"/bin/true"}}}, types.OCIConfigJSON),
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{putJSON(t, layout, manifest, types.OCIManifestSchema1)}}
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layout, "index.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		t.Fatal(err)
	}

	img, err := OpenImage(t.Context(), Ref{Kind: OCILayout, Name: layout, Text: layout}, Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if len(img.Config.Cmd) != 1 || img.Stored != int64(len(low)+len(high)) {
		t.Errorf("got config %+v, %d bytes stored", img.Config, img.Stored)
	}
	c, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := c.Reader(img.Backend, cache.ReaderOptions{})
	defer r.Close()
	for path, want := range map[string]string{"/etc/text": text, "/etc/small": "small", "/etc/new": "new"} {
		nid, err := image.Find(img.Tree, path)
		if err != nil {
			t.Fatal(err)
		}
		ext, err := img.Tree.Extents(nil, nid, 0, int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, len(want))
		if err := r.ReadExtents(t.Context(), p, ext); err != nil || string(p) != want {
			t.Errorf("%s: got %d bytes, %v; want %d", path, len(p), err, len(want))
		}
	}
}
