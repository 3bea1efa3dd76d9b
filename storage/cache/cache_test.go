package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// testBlob is a blob with its chunks and what they hold.
type testBlob struct {
	blob   *storage.Blob
	stored []byte
	plain  []byte // the uncompressed address space
	chunks []storage.Chunk
}

// newTestBlob makes a blob of n chunks of about size bytes, half of them
// compressible.
func newTestBlob(seed uint64, n, size int, c storage.Compressor, aligned bool) *testBlob {
	rnd := rand.New(rand.NewPCG(seed, 1))
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	t := &testBlob{blob: &storage.Blob{ChunkCount: uint32(n), Compressor: c, ChunkSize: uint32(size)}}
	for i := range n {
		p := make([]byte, size-rnd.IntN(size/2))
		if i%2 == 0 {
			noise.Read(p)
		} else {
			copy(p, bytes.Repeat([]byte{byte(i), byte(seed)}, len(p)))
		}
		ch := storage.Chunk{Blob: t.blob, Index: uint32(i), Offset: int64(len(t.stored)), UncompressedOffset: int64(len(t.plain)),
			UncompressedSize: uint32(len(p)), Digest: codec.Sum(p, storage.Algorithm(i%2)), Flags: storage.HasDigest}
		b, err := codec.Compress(nil, p, c)
		if err != nil {
			panic(err)
		}
		if c != storage.None && len(b) < len(p) && len(b) > 0 {
			ch.Flags |= storage.Compressed
		} else {
			b = p
		}
		ch.Size = uint32(len(b))
		t.stored = append(t.stored, b...)
		t.plain = append(t.plain, p...)
		for aligned && len(t.plain)%4096 != 0 {
			t.plain = append(t.plain, 0)
		}
		t.chunks = append(t.chunks, ch)
	}
	sum := sha256.Sum256(t.stored)
	t.blob.ID = hex.EncodeToString(sum[:])
	t.blob.Size, t.blob.DataSize, t.blob.UncompressedSize = int64(len(t.stored)), int64(len(t.stored)), int64(len(t.plain))
	t.blob.Neighbour = func(i uint32) (storage.Chunk, bool) {
		if int(i) >= len(t.chunks) {
			return storage.Chunk{}, false
		}
		return t.chunks[i], true
	}
	return t
}

// file is the chunks i to j-1 as the extents of a file, and its contents.
func (t *testBlob) file(i, j int) (ext []storage.Extent, want []byte) {
	for _, ch := range t.chunks[i:j] {
		ext = append(ext, storage.Extent{FileOffset: int64(len(want)), Length: int64(ch.UncompressedSize), Chunk: ch})
		want = append(want, t.contents(&ch)...)
	}
	return ext, want
}

func (t *testBlob) contents(ch *storage.Chunk) []byte {
	return t.plain[ch.UncompressedOffset:][:ch.UncompressedSize]
}

// memBackend serves blobs from memory and counts.
type memBackend struct {
	mu    sync.Mutex
	blobs map[string][]byte
	reads int
	bytes int64
	hook  func(ctx context.Context, blob string, p []byte, off int64) error // may wait, fail, or change p
}

func (m *memBackend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	m.mu.Lock()
	b, ok := m.blobs[blob]
	m.reads++
	m.bytes += int64(len(p))
	hook := m.hook
	m.mu.Unlock()
	if !ok {
		return fs.ErrNotExist
	}
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return errors.New("range outside the blob")
	}
	copy(p, b[off:])
	if hook != nil {
		return hook(ctx, blob, p, off)
	}
	return ctx.Err()
}

func (m *memBackend) Size(_ context.Context, blob string) (int64, error) {
	return int64(len(m.blobs[blob])), nil
}

func (m *memBackend) counts() (reads int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.bytes
}

func backendOf(blobs ...*testBlob) *memBackend {
	m := &memBackend{blobs: make(map[string][]byte)}
	for _, b := range blobs {
		m.blobs[b.blob.ID] = b.stored
	}
	return m
}

var quiet = slog.New(slog.DiscardHandler)

// openTest opens a cache and a reader that are closed with the test.
func openTest(t *testing.T, dir string, o Options, b storage.Backend, ro ReaderOptions) (*Cache, *Reader) {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reader(b, ro)
	t.Cleanup(func() {
		r.Close()
		c.Close()
	})
	return c, r
}

func read(t *testing.T, r *Reader, ext []storage.Extent, want []byte) {
	t.Helper()
	p := make([]byte, len(want))
	if err := r.ReadExtents(t.Context(), p, ext); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, want) {
		t.Fatalf("read %d bytes that are not the file's", len(p))
	}
}

func TestCacheServesWhatItFetchedOnce(t *testing.T) {
	for _, c := range []storage.Compressor{storage.None, storage.LZ4Block, storage.Gzip, storage.Zstd} {
		for _, aligned := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/aligned=%v", c, aligned), func(t *testing.T) {
				b := newTestBlob(1, 40, 9000, c, aligned)
				m := backendOf(b)
				dir := t.TempDir()
				ext, want := b.file(0, 40)
				cc, r := openTest(t, dir, Options{}, m, ReaderOptions{})
				read(t, r, ext, want)
				r.Close()
				if _, n := m.counts(); n != int64(len(b.stored)) {
					t.Errorf("bytes fetched: got %d, want %d", n, len(b.stored))
				}
				if err := cc.Close(); err != nil {
					t.Fatal(err)
				}
				m.blobs = nil // all comes from disk now
				_, r = openTest(t, dir, Options{}, m, ReaderOptions{})
				read(t, r, ext, want)
				rnd := rand.New(rand.NewPCG(2, 2))
				for range 200 {
					i := rnd.IntN(40)
					e, w := b.file(i, i+1+rnd.IntN(40-i))
					skip := rnd.IntN(int(e[0].Length))
					e[0].ChunkOffset, e[0].Length, w = uint32(skip), e[0].Length-int64(skip), w[skip:]
					read(t, r, e, w[:1+rnd.IntN(len(w))])
				}
			})
		}
	}
}

func TestReadHitDoesNotAllocate(t *testing.T) {
	b := newTestBlob(1, 16, 9000, storage.Zstd, true)
	_, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
	ext, want := b.file(0, 16)
	read(t, r, ext, want)
	waitKept(t, r, b)
	p := make([]byte, len(want))
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if err := r.ReadExtents(ctx, p, ext); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("allocations of a hit: got %v, want 0", n)
	}
}

// waitKept waits until jobs have written what they fetched.
func waitKept(t *testing.T, r *Reader, b *testBlob) {
	t.Helper()
	s := r.c.store(b.blob)
	for range 30000 {
		s.mu.Lock()
		n := len(s.flights)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		pause()
	}
	t.Fatal("chunks are still being written")
}
