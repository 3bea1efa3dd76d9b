package cache

import (
	"context"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// TestRestOfAFileIsExpected: extents beyond a read are fetched behind it,
// and reading them costs no further request.
func TestRestOfAFileIsExpected(t *testing.T) {
	b := newTestBlob(1, 40, 9000, storage.None, true)
	m := backendOf(b)
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{})
	all, want := b.file(0, 40)
	first := make([]byte, all[0].Length)
	if err := r.ReadExtents(t.Context(), first, all); err != nil {
		t.Fatal(err)
	}
	until(t, "the rest is there", func() bool {
		done, err := r.ReadPresent(make([]byte, len(want)), all)
		return done && err == nil
	})
	r.settle()
	if reads, n := m.counts(); n != int64(len(b.stored)) || reads > 3 {
		t.Errorf("%d requests for %d bytes, want 2 or 3 for %d", reads, n, len(b.stored))
	}
	r.expected.mu.Lock()
	defer r.expected.mu.Unlock()
	if r.expected.unused != 0 || r.expected.busy != 0 {
		t.Errorf("after all was read: %d bytes unread, %d under way", r.expected.unused, r.expected.busy)
	}
}

// TestExpectationsHaveABudget: what nobody reads is fetched up to a bound.
func TestExpectationsHaveABudget(t *testing.T) {
	b := newTestBlob(1, 700, 9000, storage.None, true)
	m := backendOf(b)
	_, r := openTest(t, t.TempDir(), Options{}, m, ReaderOptions{Window: 1})
	all, _ := b.file(0, 700)
	if int64(len(b.stored)) < expectFree+expectFree/8 {
		t.Fatalf("a blob of %d bytes does not exhaust the budget", len(b.stored))
	}
	if err := r.ReadExtents(t.Context(), make([]byte, all[0].Length), all); err != nil {
		t.Fatal(err)
	}
	until(t, "the budget is used up", func() bool {
		r.expected.mu.Lock()
		defer r.expected.mu.Unlock()
		return r.expected.busy == 0 && r.expected.unused > expectFree/2
	})
	r.settle()
	if _, n := m.counts(); n > expectFree+expectFree/8 {
		t.Errorf("fetched %d bytes for a read of %d", n, all[0].Length)
	}
}

// TestReaderHurriesAPrefetch: the rest of a range that is fetched in pieces
// comes in one go when a reader waits for it, whoever else reads.
func TestReaderHurriesAPrefetch(t *testing.T) {
	g := &gate{bytes: 1 << 20, slots: 4}
	if err := g.enter(t.Context(), byUser, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := newJob(cancel, 1)
	done := make(chan struct{})
	go func() {
		g.yield(ctx, j.rush)
		close(done)
	}()
	until(t, "the prefetch yields", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.quiet != nil })
	select {
	case <-done:
		t.Fatal("it went on while a user's fetch was under way")
	default:
	}
	j.hurry()
	j.hurry()
	<-done
	g.leave(byUser, 1)
	g.yield(ctx, nil) // nobody is there: at once
}
