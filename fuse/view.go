package fuse

import (
	"errors"
	"fmt"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A NodeMap turns what one of several file systems behind a session says into
// what the kernel is to see. Its methods run concurrently.
type NodeMap interface {
	// Node returns the kernel's id of a node.
	Node(inner uint64) uint64

	// Answered is called with each successful answer that is given after its
	// handler has returned [Pending], before it is sent: at most one of
	// entry and attr is not nil.
	Answered(header *InHeader, entry *EntryOut, attr *Attr)
}

// View returns a Server for a file system that shares this session with
// others, as in a union: node ids in notifications, and the answers that come
// after [Pending], go through m. The session itself is not the file system's
// to end: Unmount, Shutdown, Abort and Detach fail, Serve waits for the end.
func (s *Server) View(m NodeMap) *Server {
	v := &Server{
		e: s.e, ch: s.ch, point: s.point, probed: s.probed, done: s.done, view: m,
	}
	v.notifications.q = &Notifier{e: s.e, base: s.notifications.q, view: m}
	v.serving.Store(true)
	return v
}

var errView = fmt.Errorf("fuse: the session has other users: %w", errors.ErrUnsupported)

// translate makes the ids of n those that the kernel knows.
func (n *Notice) translate(m NodeMap) {
	switch n.code {
	case wire.NotifyPoll, wire.NotifyResend, wire.NotifyIncEpoch:
		return // without a node
	case wire.NotifyDelete:
		n.child = m.Node(n.child)
	case wire.NotifyPrune:
		for i := range n.nodes {
			n.nodes[i] = m.Node(n.nodes[i])
		}
	}
	n.node = m.Node(n.node)
}

// mapAnswer passes the answer in r through m.
func (r *Request) mapAnswer(m NodeMap) {
	h := r.Header()
	switch r.Op() {
	case wire.OpLookup, wire.OpSymlink, wire.OpMknod, wire.OpMkdir, wire.OpLink, wire.OpCreate, wire.OpTmpfile:
		m.Answered(h, outAs[EntryOut](r), nil)
	case wire.OpGetattr, wire.OpSetattr:
		m.Answered(h, nil, &outAs[AttrOut](r).Attr)
	default:
		m.Answered(h, nil, nil)
	}
}
