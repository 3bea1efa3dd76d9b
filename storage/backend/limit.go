package backend

import (
	"context"
	"sync"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// Rate is a number of bytes per second that many readers share: a bucket
// that holds one second's worth. The zero value and nil let everything pass.
type Rate struct {
	bytes int64 // per second, 0 is no limit

	mu   sync.Mutex // leaf
	next time.Time  // when the bytes that were let pass so far are paid for
}

// NewRate returns a limit of so many bytes per second, 0 being none.
func NewRate(bytesPerSecond int64) *Rate { return &Rate{bytes: bytesPerSecond} }

// Wait waits until n more bytes may be fetched.
func (r *Rate) Wait(ctx context.Context, n int64) error {
	if r == nil || r.bytes <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	r.mu.Lock()
	if full := now.Add(-time.Second); r.next.Before(full) {
		r.next = full
	}
	wait := r.next.Sub(now)
	r.next = r.next.Add(time.Duration(float64(n) / float64(r.bytes) * float64(time.Second)))
	r.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}

// Limit returns b with at most reads reads under way at once and bytes as
// rate lets them; 0 and nil mean no limit.
func Limit(b storage.Backend, reads int, rate *Rate) storage.Backend {
	l := &limited{b: b, rate: rate}
	if reads > 0 {
		l.slots = make(chan struct{}, reads)
	}
	return l
}

type limited struct {
	b     storage.Backend
	slots chan struct{}
	rate  *Rate
}

func (l *limited) enter(ctx context.Context) (leave func(), err error) {
	if l.slots == nil {
		return func() {}, nil
	}
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *limited) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := l.rate.Wait(ctx, int64(len(p))); err != nil {
		return err
	}
	leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return l.b.ReadAt(ctx, blob, p, off)
}

func (l *limited) Size(ctx context.Context, blob string) (int64, error) {
	leave, err := l.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	return l.b.Size(ctx, blob)
}
