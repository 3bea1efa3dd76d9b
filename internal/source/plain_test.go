package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/cache"
)

// tarOf is a layer of files, compressed.
func tarOf(t *testing.T, compress func(io.Writer) io.WriteCloser, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := compress(&out)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

func zstded(w io.Writer) io.WriteCloser {
	z, err := zstd.NewWriter(w)
	if err != nil {
		panic(err)
	}
	return z
}

// plainRegistry serves the layout as a registry at host/app, and counts what
// it is asked for.
type plainRegistry struct {
	layout string
	index  []byte
	blobs  atomic.Int64
	down   atomic.Bool
}

func (p *plainRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.down.Load() {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/app/"), "/")
	switch {
	case kind == "manifests" && name == "latest":
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		w.Write(p.index)
	case kind == "manifests" || kind == "blobs":
		if kind == "blobs" {
			p.blobs.Add(1)
		}
		http.ServeFile(w, r, filepath.Join(p.layout, "blobs", "sha256", strings.TrimPrefix(name, "sha256:")))
	default:
		http.NotFound(w, r)
	}
}

// plainImage is an image of two layers, gzip and zstd, of which the upper one
// removes a file of the lower.
func plainImage(t *testing.T) (layout string, index v1.IndexManifest) {
	t.Helper()
	layout = t.TempDir()
	low := putBlob(t, layout, tarOf(t, gzipped, map[string]string{"etc/keep": strings.Repeat("kept ", 5000), "etc/gone": "gone"}), types.OCILayer)
	high := putBlob(t, layout, tarOf(t, zstded, map[string]string{"etc/.wh.gone": "", "etc/new": "new"}), types.OCILayerZStd)
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{low, high},
		Config: putJSON(t, layout, v1.ConfigFile{OS: "linux", Config: v1.Config{Cmd: []string{"/bin/true"}}}, types.OCIConfigJSON),
	}
	d := putJSON(t, layout, manifest, types.OCIManifestSchema1)
	d.Platform = &v1.Platform{OS: "linux", Architecture: "riscv64"}
	other := putJSON(t, layout, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: manifest.Config}, types.OCIManifestSchema1)
	other.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	return layout, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{other, d}}
}

func plainServer(t *testing.T) (*plainRegistry, Ref) {
	t.Helper()
	layout, index := plainImage(t)
	d := putJSON(t, layout, index, types.OCIImageIndex)
	raw, err := os.ReadFile(filepath.Join(layout, "blobs", "sha256", d.Digest.Hex))
	if err != nil {
		t.Fatal(err)
	}
	p := &plainRegistry{layout: layout, index: raw}
	addr := serveHTTP(t, p)
	ref, err := Parse("docker://"+addr+"/app:latest", Auto)
	if err != nil {
		t.Fatal(err)
	}
	return p, ref
}

var riscv = &v1.Platform{OS: "linux", Architecture: "riscv64"}

func plainOptions(cacheDir string) Options {
	return Options{CacheDir: cacheDir, Platform: riscv, CertsDirs: []string{}}
}

func readFile(t *testing.T, tree image.Tree, r storage.Reader, nid uint64) []byte {
	t.Helper()
	var in image.Inode
	if err := tree.Stat(nid, &in); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, in.Size)
	if n, ok, err := tree.Inline(b, nid, 0); ok || err != nil {
		if err != nil || n != len(b) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		return b
	}
	ext, err := tree.Extents(nil, nid, 0, int64(len(b)))
	if err == nil {
		err = r.ReadExtents(t.Context(), b, ext)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkPlainContents(t *testing.T, i *Image) {
	t.Helper()
	store, err := cache.Open("", cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := store.Reader(i.Backend, cache.ReaderOptions{})
	defer r.Close()
	for path, want := range map[string]string{"etc/keep": strings.Repeat("kept ", 5000), "etc/new": "new"} {
		nid, err := image.Find(i.Tree, path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if got := readFile(t, i.Tree, r, nid); string(got) != want {
			t.Errorf("%s: %d bytes, want %d", path, len(got), len(want))
		}
	}
	if _, err := image.Find(i.Tree, "etc/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that the upper layer removes: %v", err)
	}
	if !i.Whole || len(i.Config.Cmd) != 1 {
		t.Errorf("whole %v, command %q", i.Whole, i.Config.Cmd)
	}
}

func TestPlainImageIsFetchedOnce(t *testing.T) {
	p, ref := plainServer(t)
	o := plainOptions(t.TempDir())
	said := 0
	o.Warn = func(string, ...any) { said++ }
	fetched, ended := int64(0), false
	o.Fetching = func(_ string, size int64) (func(int64), func()) {
		return func(n int64) { fetched += n }, func() { ended = fetched == size }
	}
	i, err := OpenImage(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	checkPlainContents(t, i)
	if said != 1 || !ended {
		t.Errorf("%d lines said, %d bytes told of, all of them %v", said, fetched, ended)
	}
	before := p.blobs.Load()
	second, err := OpenImage(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	checkPlainContents(t, second)
	if n := p.blobs.Load() - before; n > 1 { // the configuration
		t.Errorf("%d blobs were asked for again", n)
	}
	p.down.Store(true)
	third, err := OpenImage(t.Context(), ref, o)
	if err != nil {
		t.Fatalf("with the registry away: %v", err)
	}
	checkPlainContents(t, third)
	third.Close()

	list, err := ListConverted(o.CacheDir)
	if err != nil || len(list) != 1 || !list[0].InUse || list[0].Size == 0 {
		t.Fatalf("converted: %+v, %v", list, err)
	}
	if err := list[0].Remove(); !errors.Is(err, errInUse) {
		t.Errorf("remove an image in use: %v", err)
	}
	i.Close()
	second.Close()
	if err := list[0].Remove(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(o.CacheDir, convertedDir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPlainImageOfManyAtOnce(t *testing.T) {
	p, ref := plainServer(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			i, err := OpenImage(t.Context(), ref, plainOptions(dir))
			if err != nil {
				t.Error(err)
				return
			}
			i.Close()
		})
	}
	wg.Wait()
	// Each asks for the configuration, one for the two layers.
	if n := p.blobs.Load(); n != 8+2 {
		t.Errorf("%d blobs were asked for, want 10", n)
	}
}

func TestPlainImageLeavesNothingHalf(t *testing.T) {
	_, ref := plainServer(t)
	o := plainOptions(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	o.Fetching = func(string, int64) (func(int64), func()) {
		return func(int64) { cancel() }, func() {}
	}
	if _, err := OpenImage(ctx, ref, o); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	list, err := ListConverted(o.CacheDir)
	if err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
	o.Fetching = nil
	i, err := OpenImage(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	checkPlainContents(t, i)
	i.Close()
}

func TestPlainImageOfAWrongDigest(t *testing.T) {
	p, ref := plainServer(t)
	blobs, err := os.ReadDir(filepath.Join(p.layout, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range blobs { // a layer is changed, its size not
		name := filepath.Join(p.layout, "blobs", "sha256", e.Name())
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			b[4] ^= 1 // the time in gzip's header
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := plainOptions(t.TempDir())
	_, err = OpenImage(t.Context(), ref, o)
	if err == nil || !strings.Contains(err.Error(), "digest is sha256:") {
		t.Errorf("got %v", err)
	}
}

func TestPlainImageInALayout(t *testing.T) {
	layout, index := plainImage(t)
	b := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"riscv64"}}]}`,
		index.Manifests[1].MediaType, index.Manifests[1].Digest, index.Manifests[1].Size)
	if err := errors.Join(os.WriteFile(filepath.Join(layout, "index.json"), b, 0o644),
		os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	ref, err := Parse(layout, Auto)
	if err != nil {
		t.Fatal(err)
	}
	i, err := OpenImage(t.Context(), ref, plainOptions(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	checkPlainContents(t, i)
}
