package source

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// localImage builds an image and returns its bootstrap and its blob.
func localImage(t *testing.T) (boot, blob string) {
	t.Helper()
	src, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "hello"), bytes.Repeat([]byte("hello "), 50_000), 0o644); err != nil {
		t.Fatal(err)
	}
	boot = filepath.Join(out, "image.boot")
	res, err := build.Create(t.Context(), build.Dir(src), build.Output{Bootstrap: boot, BlobDir: out}, build.Options{Compressor: storage.Zstd})
	if err != nil {
		t.Fatal(err)
	}
	return boot, res.Written[0].Path
}

func contentsOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// helloOf opens an image and reads its file.
func helloOf(text string, o Options) (string, error) {
	ref, err := Parse(text, Auto)
	if err != nil {
		return "", err
	}
	img, err := OpenImage(context.Background(), ref, o)
	if err != nil {
		return "", err
	}
	defer img.Close()
	nid, err := image.Find(img.Tree, "/hello")
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = direct.NewReader(img.Backend).Copy(context.Background(), &out, img.Tree, nid, 300_000)
	return out.String(), err
}

// TestImageOnADisk: bootstrap and blobs in partitions, the blobs alone, and a
// disk that is a blob as a whole.
func TestImageOnADisk(t *testing.T) {
	boot, blob := localImage(t)
	dir := t.TempDir()
	disk := func(name string, parts ...testenv.Partition) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, testenv.Partitioned(parts...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	blobPart := testenv.Partition{Blob: filepath.Base(blob), Data: contentsOf(t, blob)}
	whole := disk("whole", testenv.Partition{Blob: "image.boot", Data: contentsOf(t, boot)}, blobPart)
	blobs := disk("blobs", blobPart)
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, append(contentsOf(t, blob), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("hello ", 50_000)
	for _, c := range []struct{ ref, blobDir string }{
		{whole, ""}, {"disk:" + whole, ""}, {boot, blobs}, {boot, raw},
	} {
		got, err := helloOf(c.ref, Options{CacheDir: t.TempDir(), BlobDir: c.blobDir})
		if err != nil || got != want {
			t.Errorf("%s with blobs in %q: got %d bytes, %v", c.ref, c.blobDir, len(got), err)
		}
	}
	if _, err := helloOf(blobs, Options{CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no partition called image.boot") {
		t.Errorf("disk without a bootstrap: got %v", err)
	}
	if _, err := helloOf("disk:"+raw, Options{CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "partition table") {
		t.Errorf("disk without partitions: got %v", err)
	}
}
