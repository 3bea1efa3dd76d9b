package ranged

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// watch ends a request that does not get on: no answer within HeaderTimeout,
// then fewer than StallBytes in a period of Stall.
type watch struct {
	o      *Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	n      atomic.Int64 // bytes since the timer was set
}

func (c *Client) watch(ctx context.Context) (context.Context, *watch) {
	w := &watch{o: &c.o}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(c.o.HeaderTimeout, func() { w.cancel(ErrSlow) })
	return w.ctx, w
}

// body says that the answer has begun.
func (w *watch) body() {
	w.timer.Stop()
	w.timer = time.AfterFunc(w.o.Stall, w.look)
}

// look runs once each period.
func (w *watch) look() {
	if w.n.Swap(0) < w.o.StallBytes {
		w.cancel(ErrSlow)
		return
	}
	w.timer.Reset(w.o.Stall)
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause puts the reason of the watch in the place of "context canceled".
func (w *watch) cause(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), ErrSlow) {
		return ErrSlow
	}
	return err
}

// reader counts what is read of body.
func (w *watch) reader(body io.Reader) io.Reader { return &counted{body, w} }

type counted struct {
	r io.Reader
	w *watch
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.w.n.Add(int64(n))
	return n, err
}

// finish reads the end of a body that has been read whole, so that its
// connection can be used again. A server that sends more loses it.
func (w *watch) finish(body io.Reader) {
	var b [1]byte
	body.Read(b[:])
}
