package backend

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Pool keeps the health of places that have the same blobs. The last one is
// the origin. Its methods are safe for concurrent use.
type Pool struct {
	now func() time.Time

	mu     sync.Mutex // leaf
	places []health
}

// health is of one place: after a failure it is asked last, for a time that
// doubles with each failure in a row.
type health struct {
	failures int
	until    time.Time
}

const (
	downMin = time.Second
	downMax = time.Minute
)

// NewPool returns a pool of n places that are all well. now is the clock,
// nil being the machine's.
func NewPool(n int, now func() time.Time) *Pool {
	if now == nil {
		now = time.Now
	}
	return &Pool{now: now, places: make([]health, n)}
}

// Order lists the places to ask: those that are well as they were given,
// then the others by when they are worth another try.
func (p *Pool) Order() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	var well, ill []int
	for i := range p.places {
		if now.Before(p.places[i].until) {
			ill = append(ill, i)
		} else {
			well = append(well, i)
		}
	}
	return append(well, ill...)
}

// Report notes how a place answered. That a blob is not there, and that the
// reader gave up, say nothing of its health.
func (p *Pool) Report(i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.places[i]
	switch {
	case err == nil:
		*h = health{}
	case Temporary(err) || isRefusal(err):
		d := downMin << min(h.failures, 10)
		h.failures++
		h.until = p.now().Add(min(d, downMax))
	}
}

func isRefusal(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == 401 || e.Status == 403)
}

// Do runs f for one place after the other until one succeeds. The error is
// that of the origin, if it was asked, else the last; it says what the first
// place said as well.
func (p *Pool) Do(ctx context.Context, f func(i int) error) error {
	return p.do(ctx, p.Order(), f)
}

func (p *Pool) do(ctx context.Context, order []int, f func(i int) error) error {
	var first, last, origin error
	for _, i := range order {
		err := f(i)
		if ctx.Err() == nil {
			p.Report(i, err)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
		last = err
		if i == len(p.places)-1 {
			origin = err
		}
	}
	if origin != nil {
		last = origin
	}
	return afterOther(last, first)
}

// afterOther is err with what another place had said before.
func afterOther(err, before error) error {
	if before == nil || before == err {
		return err
	}
	return &othersError{err, before}
}

// othersError is an error after that of another place. What it is is decided
// by the last one alone.
type othersError struct{ last, before error }

func (e *othersError) Error() string { return e.last.Error() + "; before that " + e.before.Error() }
func (e *othersError) Unwrap() error { return e.last }
