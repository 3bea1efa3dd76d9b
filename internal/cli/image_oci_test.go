package cli

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// plainLayer makes a gzipped layer of files with these names and contents.
func plainLayer(t *testing.T, files ...[2]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A plain OCI image gives the same image from a registry, from an OCI layout
// and from an OCI archive, with the whiteouts of its layers applied.
func TestImageCreateOfOCIImage(t *testing.T) {
	img, err := mutate.AppendLayers(empty.Image,
		plainLayer(t, [2]string{"etc/keep", "keep"}, [2]string{"etc/gone", "gone"}),
		plainLayer(t, [2]string{"etc/.wh.gone", ""}, [2]string{"new", "new"}))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	text := strings.TrimPrefix(server.URL, "http://") + "/plain:latest"
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	dir := filepath.Join(work, "layout")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(work, "layout.tar")
	f, err := os.Create(packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var first []byte
	for _, source := range []string{text, dir, "oci:" + dir, "oci-archive:" + packed} {
		out := t.TempDir()
		sluice(t, 0, nil, "sluice", "image", "create", source, "-o", out)
		boot, err := os.ReadFile(filepath.Join(out, bootstrapName))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = boot
		}
		if !bytes.Equal(boot, first) {
			t.Errorf("%s: the bootstrap is another than that from the registry", source)
		}
		tree, _ := sluice(t, 0, nil, "sluice", "image", "inspect", filepath.Join(out, bootstrapName), "-R", "tree")
		if !strings.Contains(tree, "keep") || !strings.Contains(tree, "new") || strings.Contains(tree, "gone") {
			t.Errorf("%s: tree: got %s", source, tree)
		}
	}
	// A layer that is not what the manifest says is refused.
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	b, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, append(b, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, words := sluice(t, 1, nil, "sluice", "image", "create", dir, "-o", filepath.Join(work, "bad")); !strings.Contains(words, digest.Hex) {
		t.Errorf("a changed layer: got %q, want its digest", words)
	}
}
