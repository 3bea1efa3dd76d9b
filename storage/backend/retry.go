package backend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// RetryOptions of Retry. Zero values are the defaults.
type RetryOptions struct {
	Tries         int           // at most, the first included; default 6
	Deadline      time.Duration // no new try begins after it; default 30 s
	Pause         time.Duration // before the second try, doubled before each one after; default 200 ms
	MaxPause      time.Duration // default 5 s
	MaxRetryAfter time.Duration // what is granted to a server that asks for more; default 20 s

	// Sleep waits in place of a timer, for tests.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Retry returns b with reads that are tried again when the error is
// [Temporary]: after a pause that doubles unless bytes came, with jitter of a
// half, or as long as the server said, and from the byte on where a body was cut. A server
// that asks for patience (429, 503 with Retry-After) is left alone by all
// reads meanwhile.
func Retry(b storage.Backend, o RetryOptions) storage.Backend {
	o.fill()
	return &retry{b: b, o: o}
}

// Again runs f until it succeeds, as Retry does with reads.
func Again(ctx context.Context, o RetryOptions, f func() error) error {
	o.fill()
	r := &retry{o: o}
	return r.do(ctx, func() (bool, error) { return false, f() })
}

// fill puts the defaults in place of zeros.
func (o *RetryOptions) fill() {
	if o.Tries <= 0 {
		o.Tries = 6
	}
	if o.Deadline <= 0 {
		o.Deadline = 30 * time.Second
	}
	if o.Pause <= 0 {
		o.Pause = 200 * time.Millisecond
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 5 * time.Second
	}
	if o.MaxRetryAfter <= 0 {
		o.MaxRetryAfter = 20 * time.Second
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
}

type retry struct {
	b     storage.Backend
	o     RetryOptions
	quiet atomic.Int64 // until when the server asked to be left alone, Unix nanoseconds
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *retry) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	good := 0
	err := r.do(ctx, func() (progress bool, err error) {
		err = r.b.ReadAt(ctx, blob, p[good:], off+int64(good))
		n := 0
		if err != nil {
			n = min(done(err), len(p)-good)
			good += n
		}
		return n > 0, err
	})
	return err
}

func (r *retry) Size(ctx context.Context, blob string) (n int64, err error) {
	err = r.do(ctx, func() (bool, error) {
		n, err = r.b.Size(ctx, blob)
		return false, err
	})
	return n, err
}

// do runs f until it succeeds, fails for good, or tries or time are used up.
// A try that brought bytes does not count.
func (r *retry) do(ctx context.Context, f func() (progress bool, err error)) error {
	end := time.Now().Add(r.o.Deadline)
	pause := r.o.Pause
	for try := 1; ; {
		if d := time.Until(time.Unix(0, r.quiet.Load())); d > 0 {
			if err := r.o.Sleep(ctx, d); err != nil {
				return err
			}
		}
		progress, err := f()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || !Temporary(err) {
			return err
		}
		if progress {
			pause = r.o.Pause // the server works: what is left is worth asking for soon
		} else {
			try++
		}
		d := pause/2 + rand.N(pause/2+1)
		if asked := retryAfterOf(err); asked > 0 {
			if asked > r.o.MaxRetryAfter {
				return fmt.Errorf("%w (the server asks to wait %v)", err, asked)
			}
			d = asked
			r.quiet.Store(time.Now().Add(asked).UnixNano())
		}
		if try > r.o.Tries || time.Now().Add(d).After(end) {
			return fmt.Errorf("%w (after %d tries)", err, max(try-1, 1))
		}
		if err := r.o.Sleep(ctx, d); err != nil {
			return err
		}
		pause = min(2*pause, r.o.MaxPause)
	}
}
