package fuse

import (
	"context"
	"time"
)

// Context carries a request's caller and its cancellation where a
// context.Context is wanted. It is cancelled when the kernel interrupts the
// request; see the package documentation for why that is not always an order
// to stop.
type Context struct {
	Caller
	Cancel <-chan struct{}
}

var _ context.Context = (*Context)(nil)

// callerKey finds the Caller in a context.
type callerKey struct{}

// Deadline reports that there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel that is closed when the request is interrupted,
// or nil if it cannot be.
func (c *Context) Done() <-chan struct{} { return c.Cancel }

// Err returns context.Canceled once the request has been interrupted.
func (c *Context) Err() error {
	select {
	case <-c.Cancel:
		return context.Canceled
	default:
		return nil
	}
}

// Value returns the caller, for [FromContext]; there are no other values.
func (c *Context) Value(key any) any {
	if _, ok := key.(callerKey); ok {
		return &c.Caller
	}
	return nil
}

// FromContext returns who made the request that ctx belongs to, if any.
func FromContext(ctx context.Context) (*Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(*Caller)
	return c, ok
}

// NewContext returns a copy of ctx in which [FromContext] finds caller.
func NewContext(ctx context.Context, caller *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}
