package ocirafs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// files writes a bootstrap and a blob, any bytes do, and returns their paths.
func files(t *testing.T) Image {
	t.Helper()
	dir := t.TempDir()
	img := Image{Bootstrap: filepath.Join(dir, "image.boot"), Blobs: []string{filepath.Join(dir, "blob")}}
	if err := errors.Join(os.WriteFile(img.Bootstrap, bytes.Repeat([]byte("boot"), 5000), 0o644),
		os.WriteFile(img.Blobs[0], []byte("blob"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPushAndFindBootstrap(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/test/image:v6")
	if err != nil {
		t.Fatal(err)
	}
	files := files(t)
	img, err := New(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := Push(t.Context(), ref, img); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	var boot bytes.Buffer
	if err := Bootstrap(got, &boot); err != nil {
		t.Fatal(err)
	}
	if want, _ := os.ReadFile(files.Bootstrap); !bytes.Equal(boot.Bytes(), want) {
		t.Errorf("bootstrap: got %d other bytes, want %d", boot.Len(), len(want))
	}
	blobs, err := Blobs(got)
	if err != nil || len(blobs) != 1 {
		t.Fatalf("blobs: got %v, %v, want one", blobs, err)
	}
	sum := sha256.Sum256([]byte("blob"))
	if got, want := blobs[0].Digest.Hex, hex.EncodeToString(sum[:]); got != want || blobs[0].MediaType != MediaTypeBlob {
		t.Errorf("blob layer: got %s %s, want %s %s", got, blobs[0].MediaType, want, MediaTypeBlob)
	}
}

func TestImageIsReproducible(t *testing.T) {
	files := files(t)
	one, err := New(files)
	if err != nil {
		t.Fatal(err)
	}
	two, err := New(files)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := one.Digest()
	b, err2 := two.Digest()
	if err1 != nil || err2 != nil || a != b {
		t.Errorf("digests: got %v, %v (%v, %v), want equal ones", a, b, err1, err2)
	}
}

func TestWriteLayout(t *testing.T) {
	img, err := New(files(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := WriteLayout(dir, img, "v6"); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v6" {
		t.Fatalf("index: got %+v, %v, want one image v6", m, err)
	}
	got, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(got, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestBootstrapOfOtherImage(t *testing.T) {
	if err := Bootstrap(empty.Image, io.Discard); !errors.Is(err, ErrNoBootstrap) {
		t.Errorf("got %v, want %v", err, ErrNoBootstrap)
	}
	if err := extractBootstrap(strings.NewReader("no tar at all"), io.Discard); err == nil {
		t.Error("a layer that is no tar gave no error")
	}
}
