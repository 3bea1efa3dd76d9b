package cache

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// fill reads the whole blob into a cache in dir, and closes it.
func fill(t *testing.T, dir string, o Options, b *testBlob) {
	t.Helper()
	o.Log = quiet
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reader(backendOf(b), ReaderOptions{})
	ext, want := b.file(0, len(b.chunks))
	read(t, r, ext, want)
	r.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// present counts the chunks of b that a new cache in dir has.
func present(t *testing.T, dir string, b *testBlob) (n int) {
	t.Helper()
	_, r := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	for i := range b.chunks {
		if r.Present(&b.chunks[i]) {
			n++
		}
	}
	return n
}

func TestTrimKeepsWhatIsPinnedOrInUse(t *testing.T) {
	dir := t.TempDir()
	var blobs []*testBlob
	for i := range uint64(4) {
		b := newTestBlob(i+1, 10, 60_000, storage.None, true)
		blobs = append(blobs, b)
		fill(t, dir, Options{}, b)
	}
	c, r := openTest(t, dir, Options{}, backendOf(blobs...), ReaderOptions{})
	if err := c.Pin(blobs[1].blob.ID); err != nil {
		t.Fatal(err)
	}
	ext, want := blobs[2].file(0, 10)
	read(t, r, ext, want)              // in use by this process
	age(t, dir, blobs[3], 0, 5, -1000) // the first half was used long ago
	before := c.Used()
	age(t, dir, blobs[0], 0, 10, -500)
	freed, err := c.Trim(before - 100_000)
	if err != nil || freed < 100_000 {
		t.Fatalf("trim: freed %d, %v", freed, err)
	}
	for i, want := range []int{10, 10, 10, 10} {
		n := present(t, dir, blobs[i])
		if i != 3 && n != want || i == 3 && (n < 5 || n >= 10) {
			t.Errorf("blob %d: %d chunks left", i, n)
		}
	}
	if _, err := c.Trim(0); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 10, 10, 0} {
		if n := present(t, dir, blobs[i]); n != want && i != 3 && i != 0 {
			t.Errorf("after trimming to 0: blob %d has %d chunks, want %d", i, n, want)
		}
	}
	read(t, r, ext, want)
	if err := c.Unpin(blobs[1].blob.ID); err != nil || c.Pinned(blobs[1].blob.ID) {
		t.Errorf("unpin: %v", err)
	}
}

// age changes when chunks i to j-1 were used, by so many minutes.
func age(t *testing.T, dir string, b *testBlob, i, j, minutes int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, b.blob.ID+endIndex), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for ; i < j; i++ {
		at := int64(indexRecords + i*recordSize + 28)
		var p [4]byte
		if _, err := f.ReadAt(p[:], at); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(p[:], uint32(int(binary.LittleEndian.Uint32(p[:]))+minutes))
		if _, err := f.WriteAt(p[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuotaIsKept(t *testing.T) {
	dir := t.TempDir()
	const quota = 1 << 20
	for i := range uint64(6) {
		b := newTestBlob(i+1, 10, 60_000, storage.None, true)
		fill(t, dir, Options{Quota: quota}, b)
	}
	c, _ := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
	if c.Used() > quota+200_000 || c.Used() < quota/4 {
		t.Errorf("bytes on disk: got %d with a quota of %d", c.Used(), quota)
	}
	// One image larger than the quota is read all the same.
	b := newTestBlob(50, 40, 60_000, storage.None, true)
	fill(t, dir, Options{Quota: quota}, b)
}

func TestFullDiskDoesNotStopReading(t *testing.T) {
	d := newCrashDir()
	b := newTestBlob(1, 10, 9000, storage.Zstd, true)
	c, err := open(d, Options{Log: quiet, SyncEvery: neverSync})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reader(backendOf(b), ReaderOptions{Window: -1})
	ext, want := b.file(0, 2)
	read(t, r, ext, want)
	r.settle()
	d.mu.Lock()
	d.failAs, d.fail = syscall.ENOSPC, d.ops+1
	d.mu.Unlock()
	ext, want = b.file(0, 10)
	read(t, r, ext, want)
	r.settle()
	if n := r.Stats().StoreErrors; n != 8 {
		t.Errorf("chunks that could not be kept: got %d, want 8", n)
	}
	d.mu.Lock()
	d.fail = 0 // room again
	d.mu.Unlock()
	requests := r.Stats().Requests
	read(t, r, ext, want)
	r.settle()
	if n := r.Stats().Requests; n != requests {
		t.Errorf("requests for chunks that are in memory: got %d, want 0", n-requests)
	}
	c.spares.keep()
	for i := range b.chunks {
		if !r.Present(&b.chunks[i]) {
			t.Errorf("chunk %d is not kept though there is room again", i)
		}
	}
	r.Close()
	c.Close()
}

func TestDamagedFilesAreFetchedAgain(t *testing.T) {
	b := newTestBlob(1, 10, 9000, storage.None, true)
	path := func(dir, end string) string { return filepath.Join(dir, b.blob.ID+end) }
	for name, damage := range map[string]func(t *testing.T, dir string) error{
		"data cut":      func(_ *testing.T, dir string) error { return os.Truncate(path(dir, endData), 20_000) },
		"data emptied":  func(_ *testing.T, dir string) error { return os.Truncate(path(dir, endData), 0) },
		"data removed":  func(_ *testing.T, dir string) error { return os.Remove(path(dir, endData)) },
		"index removed": func(_ *testing.T, dir string) error { return os.Remove(path(dir, endIndex)) },
		"index cut": func(_ *testing.T, dir string) error {
			return os.Truncate(path(dir, endIndex), indexRecords+3*recordSize+10)
		},
		"index zeroed":    func(_ *testing.T, dir string) error { return os.WriteFile(path(dir, endIndex), make([]byte, 8192), 0) },
		"digests removed": func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, digestFile)) },
		"data of another blob": func(_ *testing.T, dir string) error {
			return replace(path(dir, endData), newTestBlob(9, 10, 9000, storage.None, true).plain)
		},
		"data flipped": func(t *testing.T, dir string) error { return flip(path(dir, endData)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, Options{}, b)
			if err := damage(t, dir); err != nil {
				t.Fatal(err)
			}
			m := backendOf(b)
			_, r := openTest(t, dir, Options{Verify: VerifyFirst}, m, ReaderOptions{})
			ext, want := b.file(0, 10)
			read(t, r, ext, want)
			read(t, r, ext, want)
			// Without looking at each chunk, what was cut or is another file is
			// still found out.
			if name != "data flipped" {
				dir := t.TempDir()
				fill(t, dir, Options{}, b)
				if err := damage(t, dir); err != nil {
					t.Fatal(err)
				}
				_, r := openTest(t, dir, Options{}, m, ReaderOptions{})
				read(t, r, ext, want)
			}
		})
	}
}

// replace puts another file in the place of path.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 1000 {
		b[i] ^= 0x10
	}
	return os.WriteFile(path, b, 0o600)
}

func TestFilesCutWhileInUse(t *testing.T) {
	b := newTestBlob(1, 10, 9000, storage.None, true)
	dir := t.TempDir()
	_, r := openTest(t, dir, Options{}, backendOf(b), ReaderOptions{Window: -1})
	ext, want := b.file(0, 10)
	read(t, r, ext, want)
	waitKept(t, r, b)
	for _, n := range []int64{50_000, 4096, 0} {
		if err := os.Truncate(filepath.Join(dir, b.blob.ID+endData), n); err != nil {
			t.Fatal(err)
		}
		e, w := b.file(8, 10) // makes the file long again
		read(t, r, e, w)
		waitKept(t, r, b)
		read(t, r, ext, want)
		waitKept(t, r, b)
	}
}

func TestNydusLayout(t *testing.T) {
	b := newTestBlob(1, 21, 9000, storage.Zstd, true)
	dir := t.TempDir()
	fill(t, dir, Options{NydusLayout: true}, b)
	data, err := os.ReadFile(filepath.Join(dir, b.blob.ID+".blob.data"))
	if err != nil || len(data) != len(b.plain) || string(data) != string(b.plain) {
		t.Errorf("data file: %d bytes, want the %d of the blob: %v", len(data), len(b.plain), err)
	}
	bits, err := os.ReadFile(filepath.Join(dir, b.blob.ID+".blob.data.chunk_map"))
	if err != nil || len(bits) != 4096+3 {
		t.Fatalf("chunk_map: %d bytes, want %d: %v", len(bits), 4096+3, err)
	}
	if string(bits[:4]) != "PAMB" || string(bits[8:12]) != "PAMC" || bits[4] != 1 || bits[4096] != 0xff || bits[4098] != 0xf8 {
		t.Errorf("chunk_map: head % x, bits % x", bits[:16], bits[4096:])
	}

	// What nydusd has fetched is used, and what it has wrong is not.
	other := t.TempDir()
	data[b.chunks[3].UncompressedOffset] ^= 1
	bits[4096] &^= 0x01 // chunk 7
	for end, p := range map[string][]byte{".blob.data": data, ".blob.data.chunk_map": bits} {
		if err := os.WriteFile(filepath.Join(other, b.blob.ID+end), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := backendOf(b)
	_, r := openTest(t, other, Options{NydusLayout: true}, m, ReaderOptions{Window: -1})
	ext, want := b.file(0, 21)
	read(t, r, ext, want)
	if n, _ := m.counts(); n != 2 {
		t.Errorf("requests for the damaged and the missing chunk: got %d, want 2", n)
	}
}

func TestRandomReaderFetchesWhatItTouches(t *testing.T) {
	b := newTestBlob(1, 400, 9000, storage.None, true)
	m := backendOf(b)
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	rnd := rand.New(rand.NewPCG(1, 1))
	touched := make(map[int]bool)
	var want int64
	for range 60 {
		i := rnd.IntN(400)
		ext, w := b.file(i, i+1)
		read(t, r, ext, w)
		if !touched[i] {
			want += int64(b.chunks[i].Size)
		}
		touched[i] = true
	}
	r.settle()
	if _, n := m.counts(); n > want*11/10 {
		t.Errorf("bytes fetched: got %d, touched %d: more than 1.1 times", n, want)
	}
}

func TestSequentialReaderIsReadAhead(t *testing.T) {
	b := newTestBlob(1, 800, 9000, storage.None, true)
	m := backendOf(b)
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	for i := range 400 {
		ext, want := b.file(i, i+1)
		read(t, r, ext, want)
		r.settle() // a reader slower than the backend
	}
	var read int64
	for i := range 400 {
		read += int64(b.chunks[i].Size)
	}
	reads, n := m.counts()
	if r.Stats().BytesAhead == 0 || reads > 150 {
		t.Errorf("requests of 400 reads: got %d, with %d bytes read ahead", reads, r.Stats().BytesAhead)
	}
	if n > read*13/10 {
		t.Errorf("bytes fetched: got %d for %d read: more than 1.3 times", n, read)
	}
}

func TestPrefetchFetchesAllOnceAndMerged(t *testing.T) {
	b := newTestBlob(1, 300, 9000, storage.Zstd, true)
	m := backendOf(b)
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	ext, want := b.file(0, 300)
	if err := r.Prefetch(t.Context(), append(ext, ext...)); err != nil {
		t.Fatal(err)
	}
	r.settle()
	reads, n := m.counts()
	if n != int64(len(b.stored)) || reads > len(b.stored)/pieceSize+2 {
		t.Errorf("prefetch: got %d requests for %d bytes, the blob has %d", reads, n, len(b.stored))
	}
	if done, err := r.ReadPresent(make([]byte, len(want)), ext); !done || err != nil {
		t.Errorf("read of what was prefetched: done %v, %v", done, err)
	}
}

// What is fetched before anybody asks for it is counted so, soon or not.
func TestPrefetchIsCounted(t *testing.T) {
	b := newTestBlob(1, 10, 9000, storage.Zstd, true)
	ext, _ := b.file(0, 10)
	for name, prefetch := range map[string]func(*Reader, context.Context, []storage.Extent) error{"prefetch": (*Reader).Prefetch, "soon": (*Reader).PrefetchSoon} {
		_, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
		if err := prefetch(r, t.Context(), ext); err != nil {
			t.Fatal(err)
		}
		r.settle()
		if s := r.Stats(); s.BytesPrefetch != uint64(len(b.stored)) || s.BytesFetched != s.BytesPrefetch {
			t.Errorf("%s: %d bytes fetched, %d of them by prefetch, want %d", name, s.BytesFetched, s.BytesPrefetch, len(b.stored))
		}
	}
}

// TestUsersGoBeforePrefetch: while a user's fetch is under way no prefetch
// begins, and memory in flight stays within its bound.
func TestUsersGoBeforePrefetch(t *testing.T) {
	g := &gate{bytes: 100, slots: 4}
	ctx := t.Context()
	enter := func(p priority, n int64) chan struct{} {
		in := make(chan struct{})
		go func() {
			if err := g.enter(ctx, p, n); err == nil {
				close(in)
			}
		}()
		return in
	}
	waits := func(p priority) func() bool {
		return func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.waiting[p]) > 0 }
	}
	<-enter(byUser, 60)
	prefetch := enter(byPrefetch, 10)
	until(t, "the prefetch waits", waits(byPrefetch))
	big := enter(byUser, 60)
	until(t, "the second user waits for memory", waits(byUser))
	g.leave(byUser, 60)
	<-big
	if waits(byPrefetch)() == false {
		t.Error("prefetch began while a user's fetch was under way")
	}
	g.leave(byUser, 60)
	<-prefetch
	g.leave(byPrefetch, 10)
	if g.used != 0 || g.busy != [priorities]int{} {
		t.Errorf("gate after all have left: %d bytes, %v", g.used, g.busy)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			p := priority(i % int(priorities))
			n := int64(1 + i%150)
			if g.enter(ctx, p, n) == nil {
				g.leave(p, n)
			}
		})
	}
	wg.Wait()
	if g.used != 0 || g.busy != [priorities]int{} {
		t.Errorf("gate after 200 fetches: %d bytes, %v", g.used, g.busy)
	}
}

// TestJumpIsNoSequence: a reader that goes on a few chunks further, but
// megabytes away, as a loader does from the beginning of a program to its end,
// is no reader in sequence there.
func TestJumpIsNoSequence(t *testing.T) {
	b := newTestBlob(1, 12, 1<<20, storage.None, true)
	_, r := openTest(t, t.TempDir(), Options{}, backendOf(b), ReaderOptions{})
	for _, i := range []int{0, 5} {
		ext, want := b.file(i, i+1)
		read(t, r, ext, want)
		r.settle()
	}
	for i := 6; i < 12; i++ {
		if r.Present(&b.chunks[i]) {
			t.Errorf("chunk %d was fetched after a jump from chunk 0 to 5", i)
		}
	}
}
