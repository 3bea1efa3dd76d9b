package fuse

import (
	"bytes"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// maxAbandoned bounds the handlers that go on after their requests have been
// answered by a deadline. Beyond it deadlines only close cancel channels.
const maxAbandoned = 4096

// An apart is a request whose caller may be answered before its handler is
// done ([Limit.Expired]). The handler runs on a goroutine of its own with
// copies of the message's memory, which the channel uses again as soon as the
// answer is out. It is the channel.Slot of the copy.
type apart struct {
	e        *engine
	real     *channel.Request
	copy     channel.Request
	timer    *time.Timer
	expired  syscall.Errno
	answered atomic.Bool // whoever sets it gives the answer
	refused  bool        // the channel did not take the handler's answer
}

// mayExpire reports whether a deadline answers op's callers.
func (e *engine) mayExpire(m *channel.Request, op wire.Opcode) bool {
	l := e.limits[classOf[op]]
	if l == nil || l.Deadline <= 0 || l.Expired == OK || neverAnswered(op) {
		return false
	}
	_, already := m.Slot.(*apart)
	return !already
}

// neverAnswered reports whether op is one that has no answer.
func neverAnswered(op wire.Opcode) bool {
	return op == wire.OpForget || op == wire.OpBatchForget || op == wire.OpNotifyReply || op == wire.OpInterrupt
}

// serveApart serves the message m, which r has decoded.
func (e *engine) serveApart(m *channel.Request, r *Request, op wire.Opcode) {
	l := e.limits[classOf[op]]
	a := &apart{e: e, real: m, expired: l.Expired.errno()}
	a.copy = channel.Request{
		Header: bytes.Clone(m.Header), Args: bytes.Clone(m.Args), Payload: bytes.Clone(m.Payload),
		Out: make([]byte, min(r.room(op), len(m.Out))), Split: m.Split, Resent: m.Resent, Slot: a,
	}
	a.timer = time.AfterFunc(l.Deadline, a.expire)
	go e.Handle(&a.copy)
}

// room is how many bytes the answer to r may take.
func (r *Request) room(op wire.Opcode) int {
	const fixed = 4096 // any fixed answer, and the target of a symbolic link
	switch op {
	case wire.OpRead, wire.OpReaddir, wire.OpReaddirplus:
		return max(int(inAs[ReadIn](r).Size), fixed)
	case wire.OpGetxattr, wire.OpListxattr:
		return max(int(inAs[GetXAttrIn](r).Size), fixed)
	case wire.OpIoctl:
		return int(inAs[IoctlIn](r).OutSize) + fixed
	}
	return fixed
}

// expire answers the caller while the handler goes on.
func (a *apart) expire() {
	if a.e.abandoned.Add(1) > maxAbandoned || !a.answered.CompareAndSwap(false, true) {
		a.e.abandoned.Add(-1)
		return
	}
	a.e.stats.expired.Add(1)
	if a.real.Slot.Reply(a.expired, 0) != nil {
		a.real.Slot.Release()
	}
}

// Reply implements channel.Slot for the handler's answer. A late one gives
// ENOENT, as if the kernel had refused it: what it gave away is taken back.
func (a *apart) Reply(errno syscall.Errno, n int) error {
	if !a.answered.CompareAndSwap(false, true) {
		a.e.abandoned.Add(-1)
		return syscall.ENOENT
	}
	a.timer.Stop()
	copy(a.real.Out, a.copy.Out[:n])
	err := a.real.Slot.Reply(errno, n)
	a.refused = err != nil
	return err
}

// Release implements channel.Slot.
func (a *apart) Release() {
	if a.refused {
		a.real.Slot.Release()
	}
}

// Block implements channel.Slot: no reader waits for the handler.
func (a *apart) Block() {}
