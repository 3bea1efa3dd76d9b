package backend

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// script is a backend that answers as f says; a byte tells which it was.
type script struct {
	id byte
	f  func(ctx context.Context, n int64) error
	n  atomic.Int64
}

func (s *script) ReadAt(ctx context.Context, _ string, p []byte, _ int64) error {
	err := s.f(ctx, s.n.Add(1))
	if err == nil {
		for i := range p {
			p[i] = s.id
		}
	}
	return err
}

func (s *script) Size(ctx context.Context, _ string) (int64, error) {
	return int64(s.id), s.f(ctx, s.n.Add(1))
}

func well(context.Context, int64) error { return nil }

func hang(ctx context.Context, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

func after(d time.Duration, err error) func(context.Context, int64) error {
	return func(ctx context.Context, _ int64) error {
		if e := sleep(ctx, d); e != nil {
			return e
		}
		return err
	}
}

var errAway = &Error{Op: "read", Status: 503, Err: errors.New("away")}

func read1(t *testing.T, b storage.Backend) (byte, error) {
	t.Helper()
	p := []byte{0}
	err := b.ReadAt(t.Context(), "blob", p, 0)
	return p[0], err
}

func TestMirrorHedgesASlowRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick := &script{id: 1, f: hang}, &script{id: 2, f: well}
		b := Mirror(MirrorOptions{Hedge: time.Second}, slow, quick)
		start := time.Now()
		if id, err := read1(t, b); id != 2 || err != nil {
			t.Errorf("read: got place %d, %v, want 2", id, err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("read took %v, want the hedge's second", d)
		}
		if id, err := read1(t, b); id != 2 || err != nil || slow.n.Load() != 1 {
			t.Errorf("next read: got place %d, %v; the slow one was asked %d times, want 1", id, err, slow.n.Load())
		}
	})
}

func TestMirrorKeepsTheFirstWhenItWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &script{id: 1, f: after(2*time.Second, nil)}, &script{id: 2, f: hang}
		b := Mirror(MirrorOptions{Hedge: time.Second}, first, second)
		if id, err := read1(t, b); id != 1 || err != nil {
			t.Errorf("read: got place %d, %v, want 1", id, err)
		}
	})
}

func TestMirrorBothFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &Error{Op: "read", Status: 404}
		b := Mirror(MirrorOptions{Hedge: time.Second}, &script{f: after(2*time.Second, errAway)}, &script{f: after(3*time.Second, gone)})
		if _, err := read1(t, b); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read: got %v, want the origin's error", err)
		}
	})
}

func TestMirrorComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mirror := &script{id: 1, f: func(_ context.Context, n int64) error {
			if n == 1 {
				return errAway
			}
			return nil
		}}
		b := Mirror(MirrorOptions{}, mirror, &script{id: 2, f: well})
		for i, want := range []byte{2, 2, 1} {
			if id, err := read1(t, b); id != want || err != nil {
				t.Errorf("read %d: got place %d, %v, want %d", i, id, err, want)
			}
			if i == 1 {
				time.Sleep(2 * downMin)
			}
		}
		if n, err := b.Size(t.Context(), "blob"); n != 1 || err != nil {
			t.Errorf("size: got %d, %v", n, err)
		}
	})
}

func TestRetryStopsAtItsDeadlineWithFewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{f: func(context.Context, int64) error { return errAway }}
		start := time.Now()
		_, err := read1(t, Retry(s, RetryOptions{Tries: 100, Deadline: 20 * time.Second}))
		took := time.Since(start)
		if !errors.Is(err, errAway) || took > 20*time.Second || took < 10*time.Second {
			t.Errorf("read: got %v after %v", err, took)
		}
		if n := s.n.Load(); n > 15 {
			t.Errorf("requests in 20 s: got %d, a storm", n)
		}
	})
}

// halves gives the first half of what is asked for, and fails then.
type halves struct{ script }

func (h *halves) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := h.script.ReadAt(ctx, blob, p, off); err != nil || len(p) == 1 {
		return err
	}
	return &Error{Op: "read", Blob: blob, Done: len(p) / 2, Err: io.ErrUnexpectedEOF}
}

func TestRetryGoesOnFromWhereABodyWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &halves{script{f: func(context.Context, int64) error { return nil }}}
		start := time.Now()
		err := Retry(h, RetryOptions{Tries: 3, Deadline: 10 * time.Second}).ReadAt(t.Context(), "blob", make([]byte, 1<<20), 0)
		if took := time.Since(start); err != nil || took > 5*time.Second {
			t.Errorf("read: got %v after %v", err, took)
		}
		if n := h.n.Load(); n != 21 {
			t.Errorf("requests: got %d, want 21, each for half of what is left", n)
		}
	})
}

func TestRetryLeavesAServerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{id: 1, f: func(_ context.Context, n int64) error {
			if n == 1 {
				return &Error{Op: "read", Status: 429, RetryAfter: 5 * time.Second}
			}
			return nil
		}}
		b := Retry(s, RetryOptions{})
		done := make(chan error)
		go func() { done <- b.ReadAt(t.Context(), "blob", []byte{0}, 0) }()
		synctest.Wait()
		start := time.Now()
		if _, err := read1(t, b); err != nil || time.Since(start) < 5*time.Second {
			t.Errorf("another read: %v after %v, want it to wait the 5 s", err, time.Since(start))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOutageWaitsAndEndsWithTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &script{id: 1, f: func(context.Context, int64) error {
			if time.Since(start) < 10*time.Minute {
				return errAway
			}
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b := Outage(s, OutageWait, OutageOptions{Log: quiet})
		if err := b.ReadAt(ctx, "blob", []byte{0}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read that gives up: got %v", err)
		}
		if id, err := read1(t, b); id != 1 || err != nil || time.Since(start) < 10*time.Minute {
			t.Errorf("read that waits: got %d, %v after %v", id, err, time.Since(start))
		}
		gone := Outage(&script{f: func(context.Context, int64) error { return &Error{Op: "read", Status: 404} }}, OutageWait, OutageOptions{Log: quiet})
		if _, err := read1(t, gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("blob that is not there: got %v, want no waiting", err)
		}
		if b := Outage(s, OutageError, OutageOptions{}); b != storage.Backend(s) {
			t.Error("policy error wraps the backend")
		}
	})
}

func TestRateAndSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, most := atomic.Int64{}, atomic.Int64{}
		s := &script{f: func(ctx context.Context, _ int64) error {
			most.Store(max(most.Load(), busy.Add(1)))
			defer busy.Add(-1)
			return sleep(ctx, time.Millisecond)
		}}
		b := Limit(s, 3, NewRate(1000))
		start := time.Now()
		done := make(chan error)
		for range 50 {
			go func() { done <- b.ReadAt(t.Context(), "blob", make([]byte, 100), 0) }()
		}
		for range 50 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// 5000 bytes at 1000 per second, less what one second let pass at once.
		if d := time.Since(start); d < 3500*time.Millisecond || d > 5100*time.Millisecond {
			t.Errorf("50 reads of 100 bytes at 1000 bytes per second took %v", d)
		}
		if most.Load() > 3 {
			t.Errorf("reads at once: got %d, want at most 3", most.Load())
		}
		var none *Rate
		if err := none.Wait(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
	})
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		temp bool
	}{
		{nil, false},
		{context.Canceled, false},
		{&Error{Status: 500}, true},
		{&Error{Status: 501}, false},
		{&Error{Status: 429}, true},
		{&Error{Status: 404}, false},
		{&Error{Status: 403}, false},
		{&Error{Err: errors.New("connection refused")}, true},
		{&Error{Err: errors.New("x"), Final: true}, false},
		{&Error{Err: fs.ErrNotExist}, false},
		{fs.ErrNotExist, false},
	} {
		if got := Temporary(c.err); got != c.temp {
			t.Errorf("Temporary(%v): got %v, want %v", c.err, got, c.temp)
		}
	}
	if s := (&Error{Op: "read", Where: "host/repo", Blob: "b", Status: 404, Err: errors.New("not found")}).Error(); s != "read blob b at host/repo: status 404: not found" {
		t.Errorf("text: got %q", s)
	}
}
