package fuse

import (
	"crypto/rand"
	"encoding/hex"
	"syscall"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A pollProbe has the kernel ask POLL once, and answers ENOSYS, so that it
// never asks again. Without that a process that serves a file and opens it
// with package os can stop for good: the runtime adds the file to its poller
// while it holds what a reader needs to run, and the kernel asks POLL.
//
// The file that is polled has a name that nobody can guess, exists for this
// process only as long as the probe lasts, and is never listed.
type pollProbe struct {
	name string
	node uint64
}

func newPollProbe() *pollProbe {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	// File systems number their nodes from below, or use inode numbers.
	return &pollProbe{name: ".poll-" + hex.EncodeToString(b[:16]), node: nativeEndian.Uint64(b[16:]) | 1<<63}
}

// probePoll makes the kernel stop asking POLL, unless the file system has an
// answer to it.
func (e *engine) probePoll(path string) {
	if e.ops[wire.OpPoll] != nil || path == "" {
		return
	}
	p := newPollProbe()
	e.probeNode.Store(p.node)
	e.probe.Store(p) // for good: RELEASE comes late
	pollFile(path + "/" + p.name)
}

// serve answers requests that belong to the probe and reports whether r was
// one of them.
func (p *pollProbe) serve(r *Request, turn uint64) bool {
	op := r.Op()
	if r.in.NodeId != p.node && !(op == wire.OpLookup && r.in.NodeId == wire.RootID && r.name == p.name) {
		return false
	}
	r.eng.complete(r, turn, p.answer(r, op))
	return true
}

func (p *pollProbe) answer(r *Request, op wire.Opcode) Status {
	file := Attr{Ino: p.node, Mode: syscall.S_IFREG | 0o444, Nlink: 1}
	switch op {
	case wire.OpLookup:
		*entry(r) = EntryOut{NodeId: p.node, Attr: file}
		return reply[EntryOut](r, OK)
	case wire.OpGetattr:
		*attr(r) = AttrOut{Attr: file}
		return reply[AttrOut](r, OK)
	case wire.OpOpen:
		*outAs[OpenOut](r) = OpenOut{OpenFlags: wire.FopenDirectIO | wire.FopenNoflush}
		return reply[OpenOut](r, OK)
	case wire.OpPoll:
		return ENOSYS
	}
	return OK // an ENOSYS would count for all files
}
