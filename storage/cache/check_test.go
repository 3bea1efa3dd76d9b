package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

func TestCheckTakesOutWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	a := newTestBlob(1, 10, 9000, storage.Zstd, true)
	b := newTestBlob(2, 10, 9000, storage.None, false) // most of it lies in the extra file
	fill(t, dir, Options{NydusLayout: true}, a)
	fill(t, dir, Options{}, b)
	// One process uses the blob while another checks it.
	_, user := openTest(t, dir, Options{NydusLayout: true}, backendOf(a, b), ReaderOptions{Window: -1})
	ext, want := a.file(0, 10)
	read(t, user, ext, want)
	f, err := os.OpenFile(filepath.Join(dir, a.blob.ID+endData), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), a.chunks[4].UncompressedOffset+100); err != nil {
		t.Fatal(err)
	}

	c, _ := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	var told int64
	rep, err := c.Check(t.Context(), nil, func(n int64) { told = n })
	if err != nil {
		t.Fatal(err)
	}
	if rep.Blobs != 2 || rep.Chunks != 20 || told != rep.Bytes || len(rep.Damaged) != 1 || rep.Damaged[0].Chunk != 4 || rep.Damaged[0].Name != a.blob.ID {
		t.Errorf("check: got %+v", rep)
	}
	for _, s := range *user.c.byName.Load() {
		s.refresh() // as its housekeeping does
	}
	read(t, user, ext, want)
	user.settle()
	if rep, err := c.Check(t.Context(), []string{a.blob.ID}, nil); err != nil || rep.Chunks != 10 || len(rep.Damaged) != 0 {
		t.Errorf("check after the chunk was read again: got %+v, %v", rep, err)
	}
	if _, err := c.Check(t.Context(), []string{"other"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("check of a blob that is not there: got %v", err)
	}
}

func TestListAndRemove(t *testing.T) {
	dir := t.TempDir()
	a := newTestBlob(1, 10, 9000, storage.Zstd, true)
	b := newTestBlob(2, 5, 9000, storage.None, true)
	fill(t, dir, Options{}, a)
	fill(t, dir, Options{}, b)
	_, user := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	ext, want := a.file(0, 10)
	read(t, user, ext, want)
	c, _ := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	list, err := c.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("list: got %+v, %v", list, err)
	}
	for _, e := range list {
		isA := e.Name == a.blob.ID
		if e.InUse != isA || isA && e.Chunks != 10 || !isA && e.Chunks != 5 || e.OnDisk < e.Bytes || e.Pinned {
			t.Errorf("entry: got %+v", e)
		}
	}
	if err := c.Remove(a.blob.ID); err == nil {
		t.Error("remove a blob in use: got no error")
	}
	if err := c.Pin(b.blob.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(b.blob.ID); err == nil {
		t.Error("remove a pinned blob: got no error")
	}
	if err := errors.Join(c.Unpin(b.blob.ID), c.Remove(b.blob.ID)); err != nil {
		t.Error(err)
	}
	if err := c.Remove(b.blob.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove what is not there: got %v", err)
	}
	if n := present(t, dir, b); n != 0 {
		t.Errorf("chunks of a removed blob: got %d", n)
	}
}

func TestLimitOfADirectory(t *testing.T) {
	dir := t.TempDir()
	c, _ := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	if n, err := c.Limit(); n != 0 || err != nil {
		t.Errorf("limit of a new directory: got %d, %v", n, err)
	}
	for _, n := range []int64{1 << 40, 300_000} {
		if err := c.SetLimit(n); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Limit(); got != n || err != nil {
			t.Errorf("limit: got %d, %v, want %d", got, err, n)
		}
	}
	for i := range uint64(4) {
		fill(t, dir, Options{}, newTestBlob(i, 10, 20_000, storage.None, true))
	}
	if _, err := c.Trim(1 << 40); err != nil || c.Used() > 400_000 {
		t.Errorf("bytes on disk with a limit of 300000: got %d, %v", c.Used(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, limitFile), []byte("many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Limit(); err == nil {
		t.Error("limit that is no number: got no error")
	}
}
