package backend

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// Policy is what a reader sees while the place of a blob is out of reach.
type Policy uint8

// Policies of an outage.
const (
	OutageError Policy = iota // the error, once the retries are used up
	OutageWait                // nothing, until it is back or the reader gives up
)

// ParsePolicy parses "wait" or "error".
func ParsePolicy(s string) (Policy, error) {
	switch s {
	case "error":
		return OutageError, nil
	case "wait":
		return OutageWait, nil
	}
	return 0, fmt.Errorf("outage policy %q is neither wait nor error", s)
}

// OutageOptions of Outage. Zero values are the defaults.
type OutageOptions struct {
	Pause time.Duration // between two tries; default 2 s
	Log   *slog.Logger  // told when an outage begins and ends; default slog.Default

	// Sleep waits in place of a timer, for tests.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Outage returns b with a policy for errors that are [Temporary]. It goes
// around Retry. Reads that wait end with their context.
func Outage(b storage.Backend, p Policy, o OutageOptions) storage.Backend {
	if p == OutageError {
		return b
	}
	if o.Pause <= 0 {
		o.Pause = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &outage{b: b, o: o}
}

type outage struct {
	b    storage.Backend
	o    OutageOptions
	away atomic.Bool
}

func (w *outage) do(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || !Temporary(err) {
			if err == nil && w.away.CompareAndSwap(true, false) {
				w.o.Log.Info("backend is back")
			}
			return err
		}
		if w.away.CompareAndSwap(false, true) {
			w.o.Log.Warn("backend is away, reads wait for it", "error", err)
		}
		if err := w.o.Sleep(ctx, max(w.o.Pause, retryAfterOf(err))); err != nil {
			return err
		}
	}
}

func (w *outage) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	return w.do(ctx, func() error { return w.b.ReadAt(ctx, blob, p, off) })
}

func (w *outage) Size(ctx context.Context, blob string) (n int64, err error) {
	err = w.do(ctx, func() (err error) { n, err = w.b.Size(ctx, blob); return err })
	return n, err
}
