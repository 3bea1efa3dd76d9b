package fuse

import (
	"context"
	"fmt"
	"log"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A Handler carries out requests. The engine's own calls the file system;
// [Middleware] wraps it. ServeFUSE runs on the reader that received the
// request, several at once. It returns the errno of the answer, or [Pending].
type Handler interface {
	ServeFUSE(*Request) Status
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(*Request) Status

// ServeFUSE calls f.
func (f HandlerFunc) ServeFUSE(r *Request) Status { return f(r) }

// Middleware wraps a handler: to look, to refuse, to delay, to answer in its
// place. FORGET, BATCH_FORGET, INTERRUPT and INIT do not pass through it.
type Middleware func(next Handler) Handler

// engine answers the requests of one session. It knows the file system and
// the protocol; the channel is an interface to it.
//
// No lock is held while the file system runs (but for SingleThreaded), over an
// answer or over a notification. Its locks are leaves: Request.mu, inflight.mu, Notifier.mu.
type engine struct {
	fs      RawFileSystem
	opts    MountOptions
	ch      channel.Channel
	server  *Server
	ops     [wire.OpLimit]opFunc
	handler Handler
	single  *sync.Mutex // MountOptions.SingleThreaded: held while the file system runs
	notify  *Notifier
	logger  *log.Logger

	names     names
	inflight  inflight
	early     earlyInterrupts
	asked     [wire.OpLimit]bool // operations whose every INTERRUPT counts
	limits    [numClasses]*classLimit
	metrics   metrics
	trace     atomic.Pointer[tracer]
	probe     atomic.Pointer[pollProbe]
	probeNode atomic.Uint64 // the probe's node, also after it; 0 = none
	stats     engineStats
	abandoned atomic.Int64 // handlers that go on after a deadline's answer

	state    atomic.Int32  // see sessionState
	ready    chan struct{} // closed after INIT, or when there will be none
	readied  sync.Once
	initIn   InitIn // written before ready is closed
	initOut  InitOut
	params   channel.Params
	argSizes [wire.OpLimit]uint16 // bytes of fixed arguments, as agreed
	shards   atomic.Uint32
	fatal    atomic.Pointer[error]
	resumed  bool        // there was no INIT
	detached atomic.Bool // the session goes on elsewhere
}

// engineStats counts what should not happen, and what nobody waits for.
type engineStats struct {
	malformed  atomic.Uint64 // messages that made no sense
	unanswered atomic.Uint64 // answers that the kernel no longer wanted
	refused    atomic.Uint64 // answers that the kernel found wrong
	panics     atomic.Uint64
	interrupts atomic.Uint64 // INTERRUPTs received
	cancelled  atomic.Uint64 // ... of which a handler was told
	expired    atomic.Uint64 // requests that a deadline answered
}

// A sessionState says how far a session has come.
const (
	sessionNew int32 = iota // INIT has not been answered
	sessionOn
	sessionOver
)

func newEngine(fs RawFileSystem, opts *MountOptions, ch channel.Channel) *engine {
	e := &engine{fs: fs, ch: ch, ready: make(chan struct{})}
	if opts != nil {
		e.opts = *opts
	}
	e.logger = e.opts.Logger
	if e.logger == nil {
		e.logger = log.Default()
	}
	e.notify = newNotifier(e)
	e.ops = rawOps
	e.registerOptional()
	for i := range e.argSizes {
		l, _ := wire.Opcode(i).Layout()
		e.argSizes[i] = l.In
	}
	e.limits = newLimits(e.opts.Limits)
	e.handler = HandlerFunc(e.dispatch)
	if e.opts.SingleThreaded {
		e.single = new(sync.Mutex)
		e.handler = HandlerFunc(func(r *Request) Status {
			e.single.Lock()
			defer e.single.Unlock()
			return e.dispatch(r)
		})
	}
	for i := len(e.opts.Middleware) - 1; i >= 0; i-- {
		e.handler = e.opts.Middleware[i](e.handler)
	}
	if e.opts.Debug {
		e.SetDebug(true)
	}
	if d := e.opts.LogSlow; d > 0 {
		e.retrace(func(t *tracer) { t.slow, t.slog = d, e.logger })
	}
	return e
}

// argSize is the length of op's fixed arguments, bytes.
func (e *engine) argSize(op wire.Opcode) int { return int(e.argSizes[op]) }

// dispatch is the innermost handler: it calls the file system.
func (e *engine) dispatch(r *Request) Status {
	f := e.ops[r.Op()]
	if f == nil {
		return ENOSYS
	}
	return f(e, r)
}

// Handle is called by the channel's readers, for each message.
func (e *engine) Handle(m *channel.Request) {
	r, _ := m.State.(*Request)
	if r == nil {
		r = &Request{eng: e, cancel: make(chan struct{}), shard: e.shards.Add(1)}
		m.State = r
	}
	if len(m.Header) < wire.InHeaderSize {
		e.stats.malformed.Add(1)
		m.Slot.Release()
		return
	}
	copyHeader(&r.in.InHeader, m.Header)
	op := wire.Opcode(r.in.Opcode)
	if int64(r.in.Length) < wire.InHeaderSize ||
		!m.Split && uint64(r.in.Length) != uint64(len(m.Header)+len(m.Args)) {
		e.refuse(m, r, op, EIO)
		return
	}
	st := r.begin(m, op)
	switch {
	case !st.Ok():
		e.refuse(m, r, op, st)
	case op == wire.OpInit:
		e.handleInit(r)
	case e.state.Load() != sessionOn:
		e.refuse(m, r, op, Status(syscall.ENOTCONN))
	case e.mayExpire(m, op):
		e.serveApart(m, r, op)
	default:
		e.serve(r, op)
	}
}

// refuse answers a message that is not for the file system; operations that
// have no answer are dropped.
func (e *engine) refuse(m *channel.Request, r *Request, op wire.Opcode, st Status) {
	if st != ENOSYS {
		e.stats.malformed.Add(1)
	}
	if neverAnswered(op) {
		m.Slot.Release()
		return
	}
	if t := e.trace.Load(); t != nil {
		t.refused(r, st)
	}
	e.send(m, r, op, syscall.Errno(st), 0)
}

// serve runs one request of an open session.
func (e *engine) serve(r *Request, op wire.Opcode) {
	switch op {
	case wire.OpForget, wire.OpBatchForget:
		e.guard(r, func() Status {
			if e.single != nil {
				e.single.Lock()
				defer e.single.Unlock()
			}
			e.forget(r, op)
			return OK
		})
		if t := e.trace.Load(); t != nil {
			t.received(r)
		}
		e.metrics.count(op)
		r.msg.Slot.Release()
		return
	case wire.OpInterrupt:
		e.handleInterrupt(inAs[InterruptIn](r).Unique)
		r.msg.Slot.Release()
		return
	case wire.OpNotifyReply:
		in := inAs[NotifyRetrieveIn](r)
		if t := e.trace.Load(); t != nil {
			t.received(r)
		}
		e.notify.retrieved(in.Unique, r.payload[:min(uint64(in.Size), uint64(len(r.payload)))])
		r.msg.Slot.Release()
		return
	}
	r.start = time.Now()
	unique := r.in.Unique
	r.announce(unique)
	turn := r.turn.Add(1)
	r.slot = e.inflight.add(r, unique)
	if e.early.take(unique, r.start) {
		e.interrupt(r, unique)
	}
	if t := e.trace.Load(); t != nil {
		t.received(r)
	}
	if p := e.probe.Load(); p != nil && p.serve(r, turn) {
		return
	}
	if l := e.limits[classOf[op]]; l != nil {
		if st := l.admit(r); !st.Ok() {
			e.complete(r, turn, st)
			return
		}
	}
	e.complete(r, turn, e.call(r))
}

// complete gives the answer unless somebody else has given it already. After
// a handler returned Pending, r may serve another operation by now.
func (e *engine) complete(r *Request, turn uint64, st Status) {
	if st != Pending && r.turn.CompareAndSwap(turn, turn+1) {
		r.finish(st)
	}
}

// call runs the handler and turns a panic into EIO.
func (e *engine) call(r *Request) (st Status) {
	defer func() {
		if p := recover(); p != nil {
			st = e.panicked(r, p)
		}
	}()
	return e.handler.ServeFUSE(r)
}

// guard runs f, which calls the file system, and turns a panic into EIO.
func (e *engine) guard(r *Request, f func() Status) (st Status) {
	defer func() {
		if p := recover(); p != nil {
			st = e.panicked(r, p)
		}
	}()
	return f()
}

func (e *engine) panicked(r *Request, p any) Status {
	e.stats.panics.Add(1)
	if h := e.opts.PanicHandler; h != nil {
		if st := h(p); !st.Ok() {
			return st
		}
		return EIO
	}
	e.logger.Printf("fuse: panic in FS handler: %v (%v of node %d)\n%s", p, r.Op(), r.in.NodeId, debug.Stack())
	return EIO
}

// finish sends the answer. The caller has moved r's turn, so it is the only
// one.
func (r *Request) finish(st Status) {
	e, m, op, start, shard := r.eng, r.msg, r.Op(), r.start, r.shard
	errno, n := st.errno(), r.n
	if errno != 0 {
		n = 0
	}
	n = min(n, len(r.out))
	if t := e.trace.Load(); t != nil {
		t.answered(r, errno, n)
	}
	e.inflight.remove(r.slot, r.unique.Load())
	if r.deadline != nil {
		r.deadline.Stop()
		r.deadline = nil
	}
	r.settle()
	if l := r.limit; l != nil {
		r.limit = nil
		l.leave(r.charge)
	}
	e.send(m, r, op, errno, n)
	e.metrics.record(op, shard, time.Since(start), failed(errno))
}

// failed reports whether an answer counts as an error. ENOSYS, which tells the
// kernel not to ask again, does not, nor does ENODATA: that a file has no such
// attribute is what most questions for one are answered with.
func failed(errno syscall.Errno) bool {
	return errno != 0 && errno != syscall.ENOSYS && Status(errno) != ENODATA
}

// send gives the answer to the channel. After a nil error r serves another
// request already.
func (e *engine) send(m *channel.Request, r *Request, op wire.Opcode, errno syscall.Errno, n int) {
	n = e.compat(op, m, n)
	err := m.Slot.Reply(errno, n)
	if err == nil {
		return
	}
	if err == syscall.ENOENT || err == channel.ErrEnded {
		e.stats.unanswered.Add(1)
	} else if e.stats.refused.Add(1) == 1 || e.opts.Debug {
		e.logger.Printf("fuse: the kernel refused the answer to %v (errno %d, %d bytes): %v", op, errno, n, err)
	}
	if errno == 0 {
		e.guard(r, func() Status { e.undo(r, r.out[:n]); return OK })
	}
	m.Slot.Release()
}

// errno makes st what goes into a reply header: 0 or a positive errno that
// the kernel takes.
func (code Status) errno() syscall.Errno {
	if code == OK {
		return 0
	}
	if code < 0 && code > -maxErrno {
		code = -code
	}
	if code <= 0 || code >= maxErrno {
		return syscall.EIO
	}
	return syscall.Errno(code)
}

// maxErrno: from ERESTARTSYS on errnos are the kernel's own, and a reply that
// carries one is refused.
const maxErrno = 512

// end is called when the channel's Serve has returned. Nobody waits any more
// for the handlers that still run: they are told, and have some time to come
// back. After a hand-over they are the successor's to answer, so they are left
// alone.
func (e *engine) end(patience time.Duration) {
	e.state.Store(sessionOver)
	e.readied.Do(func() { close(e.ready) })
	e.notify.close()
	if e.detached.Load() {
		return
	}
	e.inflight.each(func(r *Request) {
		if u := r.unique.Load(); u != 0 {
			r.interrupt(u)
		}
	})
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	e.drain(ctx)
}

// drain waits until no request runs, and reports whether that came to pass
// before ctx ended.
func (e *engine) drain(ctx context.Context) bool {
	for pause := 50 * time.Microsecond; e.inflight.count.Load() > 0; pause = min(2*pause, 10*time.Millisecond) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
	return true
}

func (e *engine) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	e.fatal.CompareAndSwap(nil, &err)
	e.logger.Print("fuse: ", err)
}
