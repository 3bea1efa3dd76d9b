package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend/localfs"
	"github.com/sluicefs/sluice/storage/cache"
	"github.com/sluicefs/sluice/storage/codec"
)

// cachedBlob puts one blob of n chunks into the cache below dir.
func cachedBlob(t *testing.T, dir string, n int) string {
	t.Helper()
	data := bytes.Repeat([]byte("sixteen bytes.."+string(rune(0x61+n))), n*256) // no chunk in common with others
	sum := sha256.Sum256(data)
	b := &storage.Blob{ID: hex.EncodeToString(sum[:]), Size: int64(len(data)), ChunkCount: uint32(n)}
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, b.ID), data, 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := localfs.New(src)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	c, err := cache.Open(filepath.Join(dir, "chunks"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reader(back, cache.ReaderOptions{})
	var ext []storage.Extent
	for i := range n {
		ext = append(ext, storage.Extent{Length: 4096, Chunk: storage.Chunk{
			Blob: b, Index: uint32(i), Offset: int64(i) * 4096, UncompressedOffset: int64(i) * 4096, Size: 4096, UncompressedSize: 4096,
			Digest: codec.Sum(data[i*4096:][:4096], storage.SHA256), Flags: storage.HasDigest,
		}})
	}
	if err := r.Prefetch(t.Context(), ext); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return b.ID
}

func TestCacheCommands(t *testing.T) {
	dir := t.TempDir()
	a, b := cachedBlob(t, dir, 3), cachedBlob(t, dir, 5)
	run := func(want int, args ...string) string {
		t.Helper()
		var out, words bytes.Buffer
		env := &Env{Stdout: &out, Stderr: &words, Getenv: func(string) string { return "" }}
		if got := Main(context.Background(), env, append([]string{"sluice", "cache", "--cache-dir", dir}, args...)); got != want {
			t.Errorf("cache %s: exit code %d, want %d: %s", strings.Join(args, " "), got, want, words.String())
		}
		return out.String()
	}
	var list []cache.Entry
	if err := json.Unmarshal([]byte(run(0, "ls", "--json")), &list); err != nil || len(list) != 2 || list[0].Chunks+list[1].Chunks != 8 {
		t.Errorf("ls: got %+v, %v", list, err)
	}
	if s := run(0, "ls"); !strings.Contains(s, a) || !strings.Contains(s, "12.0 KiB") {
		t.Errorf("ls: got\n%s", s)
	}
	if s := run(0, "check"); !strings.HasPrefix(s, "8 chunks of 2 blobs verified (32.0 KiB), 0 damaged") {
		t.Errorf("check: got %s", s)
	}
	f, err := os.OpenFile(filepath.Join(dir, "chunks", b+".blob.data"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("X"), 5000); err != nil {
		t.Fatal(err)
	}
	if s := run(1, "check"); !strings.Contains(s, "damaged: blob "+b+" chunk 1, sha256:") {
		t.Errorf("check with a damaged chunk: got %s", s)
	}
	run(0, "pin", a)
	run(1, "pin", "nothing")
	run(1, "prune", a)
	run(0, "prune")
	if s := run(0, "ls"); !strings.Contains(s, a) || strings.Contains(s, b) || !strings.Contains(s, "pinned") {
		t.Errorf("ls after prune with one pinned: got\n%s", s)
	}
	run(0, "pin", "--remove", a)
	run(0, "prune", a)
	if s := run(0, "ls"); strings.Contains(s, a) {
		t.Errorf("ls after all is gone: got\n%s", s)
	}
	if s := run(0, "limit"); !strings.HasPrefix(s, "no limit") {
		t.Errorf("limit: got %s", s)
	}
	if s := run(0, "limit", "20G"); !strings.HasPrefix(s, "limit 20.0 GiB") {
		t.Errorf("limit 20G: got %s", s)
	}
	run(2, "limit", "much")
	run(2, "prune", "--to", "x")
	run(0, "limit", "0")
}
