package cache

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); pause() {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for: %s", what)
		}
	}
}

func TestManyReadersOneFetch(t *testing.T) {
	b := newTestBlob(1, 4, 9000, storage.Zstd, true)
	m := backendOf(b)
	gate := make(chan struct{})
	fail := true
	m.hook = func(ctx context.Context, _ string, _ []byte, _ int64) error {
		<-gate
		if fail {
			return errors.New("no luck")
		}
		return nil
	}
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	for round := range uint64(2) {
		ext, want := b.file(2, 3)
		errs := make(chan error)
		for range 64 {
			go func() {
				p := make([]byte, len(want))
				err := r.ReadExtents(t.Context(), p, ext)
				if err == nil && !bytes.Equal(p, want) {
					err = errors.New("wrong bytes")
				}
				errs <- err
			}()
		}
		until(t, "64 readers wait", func() bool { return r.Stats().Misses == 64*(round+1) })
		gate <- struct{}{}
		for range 64 {
			if err := <-errs; (err != nil) != fail {
				t.Errorf("read with a backend that fails: %v, got error %v", fail, err)
			}
		}
		waitKept(t, r, b)
		fail = false // all of them got the error; the next try is a new one
	}
	if reads, _ := m.counts(); reads != 2 {
		t.Errorf("requests: got %d, want 2", reads)
	}
}

func TestTwoProcessesFetchOnce(t *testing.T) {
	b := newTestBlob(1, 20, 9000, storage.Zstd, true)
	m := backendOf(b)
	dir := t.TempDir()
	ext, want := b.file(0, 20)
	// Two caches have their own open files, and so the locks of two processes.
	var readers []*Reader
	for range 2 {
		// No range may reach over a chunk that the other process fetches.
		_, r := openTest(t, dir, Options{}, m, ReaderOptions{MergeGap: -1})
		readers = append(readers, r)
	}
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() {
			p := make([]byte, len(want))
			if err := r.ReadExtents(t.Context(), p, ext); err != nil || !bytes.Equal(p, want) {
				t.Errorf("read: %v, right bytes %v", err, bytes.Equal(p, want))
			}
		})
	}
	wg.Wait()
	if _, n := m.counts(); n != int64(len(b.stored)) {
		t.Errorf("bytes fetched by both: got %d, want %d", n, len(b.stored))
	}
}

func TestWrongBytesAreFetchedOnceMoreFromTheOrigin(t *testing.T) {
	b := newTestBlob(1, 4, 9000, storage.None, true)
	m := backendOf(b)
	wrongAtOrigin := false
	m.hook = func(ctx context.Context, _ string, p []byte, _ int64) error {
		if !storage.IsFromOrigin(ctx) || wrongAtOrigin {
			p[0] ^= 1
		}
		return nil
	}
	var log bytes.Buffer
	dir := t.TempDir()
	_, r := openTest(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, m, ReaderOptions{})
	ext, want := b.file(0, 1)
	read(t, r, ext, want)
	wrongAtOrigin = true
	ext, want = b.file(1, 2)
	err := r.ReadExtents(t.Context(), make([]byte, len(want)), ext)
	var ce *ChunkError
	if !errors.As(err, &ce) || ce.Op != "verify" || ce.Chunk != 1 || !errors.Is(err, codec.ErrMismatch) {
		t.Errorf("read of a chunk that is wrong everywhere: got %v", err)
	}
	waitKept(t, r, b)
	if reads, _ := m.counts(); reads != 4 {
		t.Errorf("requests for two chunks: got %d, want 4", reads)
	}
	for _, s := range []string{b.blob.ID, "chunk=1", b.chunks[1].Digest.String()} {
		if !strings.Contains(log.String(), s) {
			t.Errorf("log has no %q:\n%s", s, log.String())
		}
	}
	if r.Present(&b.chunks[1]) || !r.Present(&b.chunks[0]) {
		t.Error("the wrong chunk is cached, or the right one is not")
	}
}

func TestOneChunkOfTwoBlobsIsKeptOnce(t *testing.T) {
	a := newTestBlob(1, 10, 9000, storage.Zstd, true)
	c := newTestBlob(1, 10, 9000, storage.LZ4Block, false) // the same contents, stored in another way
	m := backendOf(a, c)
	dir := t.TempDir()
	cc, r := openTest(t, dir, Options{}, m, ReaderOptions{})
	ext, want := a.file(0, 10)
	read(t, r, ext, want)
	waitKept(t, r, a)
	reads, _ := m.counts()
	stored := cc.Stats().BytesStored
	ext, want = c.file(0, 10)
	read(t, r, ext, want)
	read(t, r, ext, want)
	if n, _ := m.counts(); n != reads {
		t.Errorf("requests for chunks that another blob has: got %d, want 0", n-reads)
	}
	if n := cc.Stats().BytesStored; n != stored {
		t.Errorf("bytes stored again: got %d, want 0", n-stored)
	}
	r.Close()
	cc.Close()
	_, r = openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	read(t, r, ext, want) // from disk, by another process
}

func TestImageCannotOverwriteAnothersChunks(t *testing.T) {
	b := newTestBlob(1, 6, 9000, storage.None, true)
	dir := t.TempDir()
	ext, want := b.file(0, 6)
	_, r := openTest(t, dir, Options{}, backendOf(b), ReaderOptions{})
	read(t, r, ext, want)
	waitKept(t, r, b)
	// An image that says of the same blob what is not so: its own bytes, right
	// by its own digests, at the places and indexes of the first image.
	evil := newTestBlob(99, 6, 9000, storage.None, true)
	evil.blob.ID = b.blob.ID
	for i := range evil.chunks {
		evil.chunks[i].UncompressedOffset = b.chunks[2].UncompressedOffset + 4096*int64(i%2)
		evil.chunks[i].Index += 3
	}
	m := &memBackend{blobs: map[string][]byte{b.blob.ID: evil.stored}}
	_, r2 := openTest(t, dir, Options{}, m, ReaderOptions{Window: -1})
	plain := newTestBlob(99, 6, 9000, storage.None, true)
	for i := range evil.chunks {
		e := []storage.Extent{{Length: int64(evil.chunks[i].UncompressedSize), Chunk: evil.chunks[i]}}
		read(t, r2, e, plain.contents(&plain.chunks[i]))
	}
	waitKept(t, r2, evil)
	read(t, r, ext, want)
	_, r3 := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	read(t, r3, ext, want)
}

func TestFileForPassthrough(t *testing.T) {
	b := newTestBlob(1, 8, 8192, storage.None, true)
	for i := range b.chunks { // whole blocks: neighbours touch
		b.chunks[i].UncompressedSize = 4096
		b.chunks[i].UncompressedOffset = int64(i) * 4096
		b.chunks[i].Offset, b.chunks[i].Size = int64(i)*4096, 4096
		b.chunks[i].Digest = codec.Sum(b.stored[i*4096:][:4096], storage.BLAKE3)
	}
	b.plain = b.stored
	_, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
	ext, want := b.file(2, 6)
	if _, _, ok := r.File(ext); ok {
		t.Error("file of chunks that are missing: got one")
	}
	read(t, r, ext, want)
	waitKept(t, r, b)
	f, off, ok := r.File(ext)
	if !ok {
		t.Fatal("file of chunks that are there: got none")
	}
	p := make([]byte, len(want))
	if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, want) {
		t.Errorf("bytes of the file: %v, right %v", err, bytes.Equal(p, want))
	}
	if _, _, ok := r.File(append(ext, storage.Extent{Length: 4096, Chunk: b.chunks[7]})); ok {
		t.Error("file of chunks with a gap: got one")
	}
	if _, _, ok := r.File([]storage.Extent{{Length: 4096}}); ok {
		t.Error("file of a hole: got one")
	}
}

func TestReaderThatGivesUpEndsTheFetch(t *testing.T) {
	b := newTestBlob(1, 2, 9000, storage.None, true)
	m := backendOf(b)
	ended := make(chan error, 1)
	m.hook = func(ctx context.Context, _ string, _ []byte, _ int64) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ext, want := b.file(0, 1)
	done := make(chan error)
	go func() { done <- r.ReadExtents(ctx, make([]byte, len(want)), ext) }()
	until(t, "the reader waits", func() bool { n, _ := m.counts(); return n == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("read: got %v, want context.Canceled", err)
	}
	<-ended
	m.mu.Lock()
	m.hook = nil
	m.mu.Unlock()
	read(t, r, ext, want) // the next one is a new fetch
}

func TestBadExtentsAndChunksAreRefused(t *testing.T) {
	b := newTestBlob(1, 2, 9000, storage.None, true)
	_, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
	ok := storage.Extent{Length: 100, Chunk: b.chunks[0]}
	for name, change := range map[string]func(e *storage.Extent){
		"range beyond the chunk":  func(e *storage.Extent) { e.ChunkOffset = e.Chunk.UncompressedSize - 50 },
		"no length":               func(e *storage.Extent) { e.Length = 0 },
		"huge chunk":              func(e *storage.Extent) { e.Chunk.UncompressedSize = 1<<32 - 1 },
		"stored size 0":           func(e *storage.Extent) { e.Chunk.Size = 0 },
		"negative offset":         func(e *storage.Extent) { e.Chunk.Offset = -1 },
		"offset beyond the blob":  func(e *storage.Extent) { e.Chunk.Offset = 1 << 43 },
		"in a group that is none": func(e *storage.Extent) { e.Chunk.Flags |= storage.InGroup },
		"stored size a lie":       func(e *storage.Extent) { e.Chunk.Size-- },
		"unknown blob":            func(e *storage.Extent) { e.Chunk.Blob = &storage.Blob{ID: "other"} },
	} {
		t.Run(name, func(t *testing.T) {
			e := ok
			change(&e)
			if err := r.ReadExtents(t.Context(), make([]byte, 100), []storage.Extent{e}); err == nil {
				t.Error("read: got no error")
			}
		})
	}
	if err := r.ReadExtents(t.Context(), make([]byte, 101), []storage.Extent{ok}); err == nil {
		t.Error("read longer than its extents: got no error")
	}
}

func TestUnsafeDirectoriesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Join(dir, "link"), open} {
		if c, err := Open(d, Options{}); err == nil {
			c.Close()
			t.Errorf("cache in %s: got no error", filepath.Base(d))
		}
	}
	// A file planted under a blob's name is not followed; reads go on.
	b := newTestBlob(1, 3, 9000, storage.None, true)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(own, b.blob.ID+endData)); err != nil {
		t.Fatal(err)
	}
	_, r := openTest(t, own, Options{}, backendOf(b), ReaderOptions{})
	ext, want := b.file(0, 3)
	read(t, r, ext, want)
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("file that a planted link points to: got %q, %v", got, err)
	}
}

func TestWithoutDirectory(t *testing.T) {
	b := newTestBlob(1, 5, 9000, storage.Zstd, true)
	m := backendOf(b)
	c, r := openTest(t, "", Options{}, m, ReaderOptions{})
	ext, want := b.file(0, 5)
	read(t, r, ext, want)
	read(t, r, ext, want)
	r.settle() // a flight that has landed gives its bytes to whoever comes
	m.mu.Lock()
	m.blobs = nil
	m.mu.Unlock()
	read(t, r, ext, want) // what was read last is in memory
	c.spares.drop(nil)
	if err := r.ReadExtents(t.Context(), make([]byte, len(want)), ext); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of a blob that is gone: got %v, want fs.ErrNotExist", err)
	}
}

// TestOneChunkOfAGroupBringsTheOthers: a batch is fetched and decoded once,
// not once for each of its chunks.
func TestOneChunkOfAGroupBringsTheOthers(t *testing.T) {
	plain := newTestBlob(1, 12, 3000, storage.None, true)
	b := &testBlob{blob: &storage.Blob{ID: plain.blob.ID, ChunkCount: 12, Compressor: storage.Zstd}, plain: plain.plain}
	for at := 0; at < 12; at += 4 { // three batches of four chunks
		var batch []byte
		g := &storage.Group{Offset: int64(len(b.stored))}
		for _, ch := range plain.chunks[at : at+4] {
			ch.Blob, ch.Group, ch.GroupOffset = b.blob, g, uint32(len(batch))
			ch.Offset, ch.Size = g.Offset, 0
			ch.Flags |= storage.InGroup | storage.Compressed
			batch = append(batch, plain.contents(&ch)...)
			b.chunks = append(b.chunks, ch)
		}
		stored, err := codec.Compress(nil, batch, storage.Zstd)
		if err != nil {
			t.Fatal(err)
		}
		g.Size, g.UncompressedSize = uint32(len(stored)), uint32(len(batch))
		b.stored = append(b.stored, stored...)
	}
	b.blob.Neighbour = func(i uint32) (storage.Chunk, bool) {
		if i >= 12 {
			return storage.Chunk{}, false
		}
		return b.chunks[i], true
	}
	m := backendOf(b)
	dir := t.TempDir()
	_, r := openTest(t, dir, Options{}, m, ReaderOptions{})
	for _, i := range []int{6, 4, 7, 5} {
		ext, want := b.file(i, i+1)
		read(t, r, ext, want)
		r.settle()
	}
	if n, _ := m.counts(); n != 1 {
		t.Errorf("requests for the four chunks of a batch: got %d, want 1", n)
	}
	ext, want := b.file(0, 12)
	read(t, r, ext, want)
	if _, n := m.counts(); n != int64(len(b.stored)) {
		t.Errorf("bytes fetched: got %d, want %d", n, len(b.stored))
	}
	waitKept(t, r, b)
	_, r = openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	read(t, r, ext, want)
}
