package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// MirrorOptions of Mirror. Zero values are the defaults.
type MirrorOptions struct {
	// Hedge is how long a read may take before the next place is asked for
	// the same range as well; default 1 s plus four times what reads of that
	// size have taken; negative: never. The quicker one wins.
	Hedge time.Duration
	Pool  *Pool // health, to share with other users of the same places; default a new one
}

// Mirror returns a backend that asks the places in turn, the origin last,
// those that failed lately after those that are well. A read with
// [storage.FromOrigin] goes to the origin alone.
func Mirror(o MirrorOptions, places ...storage.Backend) storage.Backend {
	if len(places) == 1 {
		return places[0]
	}
	if o.Pool == nil {
		o.Pool = NewPool(len(places), nil)
	}
	return &mirror{o: o, places: places}
}

type mirror struct {
	o      MirrorOptions
	places []storage.Backend
	pace   atomic.Int64 // nanoseconds per MiB that reads take, smoothed
}

// order is which places to ask for ctx.
func (m *mirror) order(ctx context.Context) []int {
	if storage.IsFromOrigin(ctx) {
		return []int{len(m.places) - 1}
	}
	return m.o.Pool.Order()
}

func (m *mirror) Size(ctx context.Context, blob string) (n int64, err error) {
	err = m.o.Pool.do(ctx, m.order(ctx), func(i int) (err error) {
		n, err = m.places[i].Size(ctx, blob)
		return err
	})
	return n, err
}

func (m *mirror) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	order := m.order(ctx)
	var last, origin error
	for len(order) > 0 {
		i := order[0]
		order = order[1:]
		hedge := -1
		if len(order) > 0 {
			hedge = order[0]
		}
		err, err2 := m.race(ctx, i, hedge, blob, p, off)
		if err == nil || err2 == nil || ctx.Err() != nil {
			return filled(ctx, err, err2)
		}
		if last = err; i == len(m.places)-1 {
			origin = err
		}
		if err2 != errNotAsked {
			order = order[1:]
			if last = err2; hedge == len(m.places)-1 {
				origin = err2
			}
		}
	}
	if origin != nil {
		return origin
	}
	return last
}

// filled is the result of a race that is over: what one place has brought is
// good even if ctx has ended.
func filled(ctx context.Context, err, err2 error) error {
	if err == nil || err2 == nil {
		return nil
	}
	return ctx.Err()
}

// race reads from place i, and from place j as well when i takes long. It
// returns the errors of both, errNotAsked for j if i was enough, when both
// have let go of p; unless both failed p is filled.
func (m *mirror) race(ctx context.Context, i, j int, blob string, p []byte, off int64) (err, err2 error) {
	if j < 0 || m.o.Hedge < 0 {
		return m.ask(ctx, i, blob, p, off), errNotAsked
	}
	first := m.begin(ctx, i, blob, p, off)
	defer first.cancel()
	t := time.NewTimer(m.patience(len(p)))
	defer t.Stop()
	select {
	case err := <-first.done:
		return err, errNotAsked
	case <-t.C:
	}
	other := make([]byte, len(p))
	second := m.begin(ctx, j, blob, other, off)
	defer second.cancel()
	select {
	case err = <-first.done:
		if err == nil {
			second.cancel()
		}
		err2 = <-second.done
	case err2 = <-second.done:
		if err2 == nil {
			first.cancel()
			m.o.Pool.Report(i, &Error{Op: "read", Err: errHedge})
		}
		err = <-first.done
	}
	if err != nil && err2 == nil {
		copy(p, other)
	}
	return err, err2
}

// attempt is a read under way.
type attempt struct {
	cancel context.CancelFunc
	done   chan error
}

func (m *mirror) begin(ctx context.Context, i int, blob string, p []byte, off int64) attempt {
	ctx, cancel := context.WithCancel(ctx)
	a := attempt{cancel, make(chan error, 1)}
	go func() { a.done <- m.ask(ctx, i, blob, p, off) }()
	return a
}

// ask reads from one place and notes how it did.
func (m *mirror) ask(ctx context.Context, i int, blob string, p []byte, off int64) error {
	start := time.Now()
	err := m.places[i].ReadAt(ctx, blob, p, off)
	if ctx.Err() == nil {
		m.o.Pool.Report(i, err)
	}
	if err == nil {
		took := int64(time.Since(start)) * (1 << 20) / max(int64(len(p)), 64<<10)
		m.pace.Store((7*m.pace.Load() + took) / 8)
	}
	return err
}

// patience is how long a read of n bytes may take before it is hedged.
func (m *mirror) patience(n int) time.Duration {
	if m.o.Hedge > 0 {
		return m.o.Hedge
	}
	return time.Second + 4*time.Duration(m.pace.Load()*int64(max(n, 64<<10))/(1<<20))
}

var (
	errHedge    = errors.New("another place was quicker")
	errNotAsked = errors.New("not asked")
)
