package fuse

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse/wire"
)

// An InterruptMode says which INTERRUPTs close the cancel channel that the
// handlers of a [RawFileSystem] get. The kernel sends one whenever the caller
// of an operation gets a signal, also for signals that stop nothing: Go
// programs send themselves SIGURG all the time. A handler that gives up for
// those fails operations that nobody wanted to stop.
//
// A waiting lock (SETLKW) and the operations that the file system asks for
// (see [Interruptible]) are told of each INTERRUPT in all modes.
type InterruptMode int

const (
	// InterruptSignals passes on those whose caller has a signal waiting
	// other than SIGURG, or whose signals cannot be seen (another process
	// namespace). A caller that is being killed is one of them.
	InterruptSignals InterruptMode = iota
	// InterruptAsked passes on none but those that are passed on in all modes,
	// and those whose caller is being killed.
	InterruptAsked
	// InterruptAll passes on all.
	InterruptAll
)

// Interruptible is implemented by a [RawFileSystem] that wants each INTERRUPT
// for some operations. It is asked once for each opcode, when the server is
// made.
type Interruptible interface {
	Interruptible(opcode uint32) bool
}

// handleInterrupt passes on an INTERRUPT for the request with that unique. One
// that cannot be found has ended, or is still on its way from the channel to
// the table: it looks for itself when it gets there. That saves the EAGAIN
// that the kernel would answer by sending the INTERRUPT again and again.
func (e *engine) handleInterrupt(unique uint64) {
	e.stats.interrupts.Add(1)
	unique &^= wire.UniqueInterrupt
	r := e.inflight.find(unique)
	if r == nil {
		e.early.add(unique)
		if r = e.inflight.find(unique); r == nil {
			return
		}
	}
	e.interrupt(r, unique)
}

// interrupt tells r's handler, if the mode says so.
func (e *engine) interrupt(r *Request, unique uint64) {
	if s, ok := r.summarize(unique); ok && e.honours(s) && r.interrupt(unique) {
		e.stats.cancelled.Add(1)
	}
}

// honours reports whether an INTERRUPT of a request is passed on.
func (e *engine) honours(s summary) bool {
	if e.asked[s.op] || e.opts.Interrupts == InterruptAll {
		return true
	}
	pending, known := pendingSignals(s.pid)
	if e.opts.Interrupts == InterruptAsked {
		return known && pending&signalBit(sigKill) != 0
	}
	return !known || pending&^signalBit(sigUrg) != 0
}

const (
	sigKill = 9
	sigUrg  = 23
)

func signalBit(n int) uint64 { return 1 << (n - 1) }

// pendingSignals returns the signals that wait for the thread pid or its
// process and that it does not block.
func pendingSignals(pid uint32) (set uint64, known bool) {
	if pid == 0 {
		return 0, false
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return 0, false
	}
	own, ok1 := statusMask(b, "\nSigPnd:\t")
	shared, ok2 := statusMask(b, "\nShdPnd:\t")
	blocked, ok3 := statusMask(b, "\nSigBlk:\t")
	return (own | shared) &^ blocked, ok1 && ok2 && ok3
}

// statusMask reads one hexadecimal line of /proc/PID/status.
func statusMask(status []byte, key string) (uint64, bool) {
	_, rest, ok := bytes.Cut(status, []byte(key))
	if !ok {
		return 0, false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	v, err := strconv.ParseUint(string(line), 16, 64)
	return v, err == nil
}

// earlyInterrupts remembers INTERRUPTs that came before the request that they
// are for. Old ones are overwritten; uniques are never used twice.
type earlyInterrupts struct {
	until atomic.Int64 // no entry is younger than this, ns since the epoch
	next  atomic.Uint32
	ring  [earlySlots]atomic.Uint64
}

const (
	earlySlots = 64
	earlyFor   = time.Second
)

func (q *earlyInterrupts) add(unique uint64) {
	q.ring[q.next.Add(1)%earlySlots].Store(unique)
	q.until.Store(time.Now().Add(earlyFor).UnixNano())
}

// take reports whether an INTERRUPT for unique has come, and forgets it.
func (q *earlyInterrupts) take(unique uint64, now time.Time) bool {
	until := q.until.Load()
	if until == 0 || now.UnixNano() > until {
		return false
	}
	for i := range q.ring {
		if q.ring[i].Load() == unique && q.ring[i].CompareAndSwap(unique, 0) {
			return true
		}
	}
	return false
}
