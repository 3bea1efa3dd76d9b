package cache

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// whole is the chunks i to j-1 of b as a file, with a hole behind them.
func (t *testBlob) whole(i, j int, hole int64) (*Whole, []byte) {
	ext, want := t.file(i, j)
	if hole > 0 {
		ext = append(ext, storage.Extent{FileOffset: int64(len(want)), Length: hole})
		want = append(want, make([]byte, hole)...)
	}
	return &Whole{Size: int64(len(want)), Extents: func(dst []storage.Extent, off, n int64) ([]storage.Extent, error) {
		for _, e := range ext {
			from, to := max(off, e.FileOffset), min(off+n, e.FileOffset+e.Length)
			if from >= to {
				continue
			}
			if !e.Hole() {
				e.ChunkOffset += uint32(from - e.FileOffset)
			}
			e.FileOffset, e.Length = from, to-from
			dst = append(dst, e)
		}
		return dst, nil
	}}, want
}

func keyOf(t *testing.T, w *Whole) string {
	t.Helper()
	key, err := w.Key(1000)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWholeKeys(t *testing.T) {
	b := newTestBlob(1, 6, 40_000, storage.Zstd, true)
	w, _ := b.whole(0, 3, 0)
	again, _ := b.whole(0, 3, 0)
	if keyOf(t, w) != keyOf(t, again) {
		t.Error("two keys of one file")
	}
	seen := map[string]bool{}
	for _, k := range []struct {
		i, j int
		hole int64
	}{{0, 3, 0}, {0, 3, 1}, {0, 3, 2}, {0, 4, 0}, {1, 3, 0}} {
		w, _ := b.whole(k.i, k.j, k.hole)
		key := keyOf(t, w)
		if seen[key] {
			t.Errorf("%+v has the key of another file", k)
		}
		seen[key] = true
	}
	if _, err := w.Key(2); !errors.Is(err, ErrTooMany) {
		t.Errorf("3 extents, 2 allowed: %v", err)
	}
	b.chunks[1].Flags = 0
	w, _ = b.whole(0, 3, 0)
	if key, err := w.Key(1000); err == nil {
		t.Errorf("a chunk without digest: key %s", key)
	}
	for what, ext := range map[string][]storage.Extent{
		"none": nil, "a gap": {{FileOffset: 1, Length: 9}}, "too long": {{Length: 11}}, "empty": {{}},
	} {
		w := &Whole{Size: 10, Extents: func([]storage.Extent, int64, int64) ([]storage.Extent, error) { return ext, nil }}
		if key, err := w.Key(1000); err == nil {
			t.Errorf("extents: %s: key %s", what, key)
		}
	}
}

func TestWholeFiles(t *testing.T) {
	b := newTestBlob(2, 6, 700_000, storage.Zstd, true)
	dir := t.TempDir()
	c, r := openTest(t, dir, Options{}, backendOf(b), ReaderOptions{})
	w, want := b.whole(0, 4, 3_000_000)
	key := keyOf(t, w)
	if _, err := r.MakeWhole(t.Context(), key, w); !errors.Is(err, ErrNotWhole) {
		t.Fatalf("nothing is there: %v", err)
	}
	ext, data := b.file(0, 4)
	read(t, r, ext, data)
	waitKept(t, r, b)
	if _, err := c.OpenWhole(key, w.Size); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("not made: %v", err)
	}
	for i, want := range []bool{true, false} {
		if made, err := r.MakeWhole(t.Context(), key, w); err != nil || made != want {
			t.Fatalf("make %d: %v, %v", i, made, err)
		}
	}
	content := func() error {
		f, err := c.OpenWhole(key, w.Size)
		if err != nil {
			return err
		}
		defer f.Close()
		got, err := io.ReadAll(f)
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("other bytes")
		}
		return err
	}
	if err := content(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, key+endWhole)
	list, err := c.List()
	i := slices.IndexFunc(list, func(e Entry) bool { return e.Name == key+endWhole })
	if err != nil || i < 0 || list[i].Bytes != w.Size || list[i].OnDisk == 0 || list[i].OnDisk >= w.Size {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if rep, err := c.Check(t.Context(), nil, nil); err != nil || rep.Files != 1 || len(rep.Damaged) != 0 {
		t.Errorf("check: %+v, %v", rep, err)
	}
	// A byte that changed is found by Check, a size by the next open.
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{want[5000] + 1}, 5000)
	if err = errors.Join(err, f.Chmod(0o400), f.Close()); err != nil {
		t.Fatal(err)
	}
	if rep, err := c.Check(t.Context(), []string{key + endWhole}, nil); err != nil || len(rep.Damaged) != 1 || !strings.HasPrefix(rep.Damaged[0].Digest, "blake3:") {
		t.Errorf("check of a damaged file: %+v, %v", rep, err)
	}
	if err := content(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after check: %v", err)
	}
	if made, err := r.MakeWhole(t.Context(), key, w); err != nil || !made {
		t.Fatalf("make again: %v, %v", made, err)
	}
	if _, err := c.OpenWhole(key, w.Size-1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another size: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("a file of another size was left")
	}
}

func TestWholesGoBeforeChunks(t *testing.T) {
	b := newTestBlob(3, 6, 700_000, storage.Zstd, true)
	c, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
	ext, data := b.file(0, 6)
	read(t, r, ext, data)
	waitKept(t, r, b)
	var keys []string
	for i := range 2 {
		w, _ := b.whole(i, i+3, 0)
		keys = append(keys, keyOf(t, w))
		if _, err := r.MakeWhole(t.Context(), keys[i], w); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (n int) {
		list, err := c.wholes()
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if err := c.Pin(keys[0] + endWhole); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Trim(0); err != nil || names() != 1 {
		t.Errorf("trim with one pinned: %d are left, %v", names(), err)
	}
	if err := c.Remove(keys[0] + endWhole); err == nil {
		t.Error("a pinned file was removed")
	}
	if err := errors.Join(c.Unpin(keys[0]+endWhole), c.Remove(keys[0]+endWhole)); err != nil || names() != 0 {
		t.Errorf("remove: %d are left, %v", names(), err)
	}
	if !r.Present(&b.chunks[0]) {
		t.Error("the chunks of a reader's blob went with the whole files")
	}
	// With the quota used up no copy is made, and nothing evicted for it.
	c.quota.Store(c.Used() + 1)
	w, _ := b.whole(0, 3, 0)
	if _, err := r.MakeWhole(t.Context(), keys[0], w); !errors.Is(err, errNoRoom) || names() != 0 {
		t.Errorf("no room: %v", err)
	}
}
