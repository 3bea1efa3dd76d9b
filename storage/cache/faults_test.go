package cache

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/httpdir"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// sick is a web server with one blob that behaves as it is told.
type sick struct {
	*httptest.Server
	blob []byte
	asks atomic.Int64
	how  atomic.Pointer[http.HandlerFunc] // nil: in good health
}

func newSick(t *testing.T, blob []byte) *sick {
	s := &sick{blob: blob}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asks.Add(1)
		if how := s.how.Load(); how != nil {
			(*how)(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(s.blob)))
	}))
	t.Cleanup(s.Close)
	return s
}

// backend reads from the server; stall is how long a body may bring nothing.
func (s *sick) backend(t *testing.T, stall time.Duration) storage.Backend {
	t.Helper()
	b, err := httpdir.New(httpdir.Options{URL: s.URL, Range: ranged.Options{HeaderTimeout: time.Minute, Stall: stall}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func (s *sick) behave(how http.HandlerFunc) { s.how.Store(&how) }

// hung never answers.
func hung(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// failing answers at once.
func failing(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no", http.StatusInternalServerError)
}

// trickling gives some bytes of what it promises, and no more.
func trickling(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Range", "bytes "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")+"/*")
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write([]byte("x"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// held is what the process holds: bytes of live heap, goroutines, descriptors.
type held struct {
	heap       int64
	goroutines int
	files      int
}

func holds(t *testing.T) (h held) {
	t.Helper()
	for range 3 { // what pools have lives for two
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return held{int64(m.HeapAlloc), runtime.NumGoroutine(), len(files)}
}

// Bounds of what faults may leave behind: connections that are kept for later,
// of which each has a few goroutines on both sides, and what the heap varies by.
const (
	leftHeap       = 4 << 20
	leftGoroutines = 80
	leftFiles      = 40
)

// settledAs waits until no more than before is held, but for the bounds.
func settledAs(t *testing.T, what string, before held) {
	t.Helper()
	until(t, what+": given back", func() bool {
		now := holds(t)
		ok := now.heap <= before.heap+leftHeap && now.goroutines <= before.goroutines+leftGoroutines && now.files <= before.files+leftFiles
		if !ok {
			t.Logf("%s: holds %+v, before %+v", what, now, before)
		}
		return ok
	})
}

// TestFaultsLoseNothing: readers of a server that hangs, fails, trickles or is
// away for thousands of retries take bounded memory meanwhile, and when they
// are gone neither memory nor goroutines nor descriptors are.
func TestFaultsLoseNothing(t *testing.T) {
	const chunks, readers = 200, 200
	rounds := 10 // of 500 failing reads, or retries
	if testing.Short() {
		rounds = 2
	}
	b := newTestBlob(1, chunks, 128<<10, storage.None, true)
	s := newSick(t, b.stored)
	origin := s.backend(t, time.Minute)
	// A trickle gets on, byte by byte: only the deadline ends it.
	quick := backend.RetryOptions{Tries: 3, Pause: time.Microsecond, MaxPause: time.Microsecond, Deadline: 200 * time.Millisecond}
	const inFlight = 4 << 20
	fails := func(t *testing.T, b storage.Backend) *Reader {
		_, r := openTest(t, t.TempDir(), Options{InFlight: inFlight}, backend.Retry(b, quick), ReaderOptions{Window: -1})
		return r
	}
	// All of it once, so that what is made once is there.
	ext, want := b.file(0, chunks)
	_, r := openTest(t, t.TempDir(), Options{InFlight: inFlight}, origin, ReaderOptions{Window: -1})
	read(t, r, ext, want)
	one := func(r *Reader, ctx context.Context, i int) error {
		e, w := b.file(i%chunks, i%chunks+1)
		return r.ReadExtents(ctx, make([]byte, min(len(w), 4096)), e)
	}

	t.Run("hung", func(t *testing.T) {
		s.behave(hung)
		r := fails(t, origin)
		before := holds(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		var wrong atomic.Int64
		for i := range readers {
			wg.Go(func() {
				if err := one(r, ctx, i); !errors.Is(err, context.Canceled) {
					wrong.Add(1)
				}
			})
		}
		until(t, "all readers wait", func() bool { return r.Stats().Misses == readers })
		if now := holds(t); now.heap > before.heap+inFlight+leftHeap {
			t.Errorf("%d readers of a hung server take %d bytes, bound %d", readers, now.heap-before.heap, inFlight+leftHeap)
		}
		cancel()
		wg.Wait()
		r.settle()
		if wrong.Load() != 0 {
			t.Errorf("%d of %d readers that gave up got another error", wrong.Load(), readers)
		}
		settledAs(t, "hung", before)
	})
	t.Run("failing", func(t *testing.T) {
		s.behave(failing)
		r := fails(t, origin)
		before := holds(t)
		var wg sync.WaitGroup
		var served atomic.Int64
		for w := range 20 {
			wg.Go(func() {
				for i := range 25 * rounds {
					if one(r, t.Context(), w*25*rounds+i) == nil {
						served.Add(1)
					}
				}
			})
		}
		wg.Wait()
		r.settle()
		if served.Load() != 0 {
			t.Errorf("%d reads were served by a server that fails", served.Load())
		}
		settledAs(t, "failing reads", before)
	})
	t.Run("trickling", func(t *testing.T) {
		s.behave(trickling)
		r := fails(t, s.backend(t, 20*time.Millisecond))
		before := holds(t)
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				if err := one(r, t.Context(), i); err == nil {
					t.Error("a read of a trickle was served")
				}
			})
		}
		wg.Wait()
		r.settle()
		settledAs(t, "trickling", before)
	})
	t.Run("away", func(t *testing.T) {
		s.behave(failing)
		waits := backend.Outage(backend.Retry(origin, quick), backend.OutageWait, backend.OutageOptions{Pause: time.Microsecond, Log: quiet})
		_, r := openTest(t, t.TempDir(), Options{InFlight: inFlight}, waits, ReaderOptions{Window: -1})
		before := holds(t)
		var wg sync.WaitGroup
		for i := range readers {
			wg.Go(func() {
				if err := one(r, t.Context(), i); err != nil {
					t.Errorf("reader %d: %v", i, err)
				}
			})
		}
		retried := func(rounds int) {
			for range rounds {
				n := s.asks.Load() + 500
				until(t, "retries", func() bool { return s.asks.Load() >= n })
			}
		}
		retried(2)
		early := holds(t)
		retried(rounds) // with the pauses of a mount these take hours
		if late := holds(t); late.heap > early.heap+leftHeap || late.goroutines > early.goroutines+leftGoroutines || late.files > early.files+leftFiles {
			t.Errorf("held after 1,000 retries %+v, after %d more %+v", early, 500*rounds, late)
		}
		s.how.Store(nil)
		wg.Wait() // the server is back, and all are served without a restart
		r.settle()
		settledAs(t, "away", before)
	})
}
