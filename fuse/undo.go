package fuse

import (
	"github.com/sluicefs/sluice/fuse/wire"
)

// undo takes back what a successful answer gave to the kernel, when the kernel
// did not take the answer: lookup references and open handles. out is the
// body that was refused.
func (e *engine) undo(r *Request, out []byte) {
	switch op := r.Op(); op {
	case wire.OpLookup, wire.OpSymlink, wire.OpMknod, wire.OpMkdir, wire.OpLink:
		e.forgetEntry(outAs[EntryOut](r))
	case wire.OpCreate, wire.OpTmpfile:
		co := *outAs[CreateOut](r)
		e.undoOpen(r, &co.OpenOut, co.NodeId, false)
		e.forgetEntry(&co.EntryOut)
	case wire.OpOpen, wire.OpOpendir:
		oo := *outAs[OpenOut](r)
		e.undoOpen(r, &oo, r.in.NodeId, op == wire.OpOpendir)
	case wire.OpReaddirplus:
		e.undoDirents(out)
	}
}

func (e *engine) forgetEntry(out *EntryOut) {
	if out.NodeId != 0 {
		e.fs.Forget(out.NodeId, 1)
	}
}

// undoOpen releases a handle that no RELEASE will come for.
func (e *engine) undoOpen(r *Request, out *OpenOut, node uint64, dir bool) {
	in := ReleaseIn{InHeader: r.in.InHeader, Fh: out.Fh, Flags: inAs[OpenIn](r).Flags}
	in.NodeId = node
	if dir {
		e.fs.ReleaseDir(&in)
		return
	}
	e.fs.Release(never, &in)
}

// never is the cancel channel of what nobody can cancel.
var never = make(chan struct{})

// undoDirents takes back one lookup for each record but "." and "..".
func (e *engine) undoDirents(b []byte) {
	ne := nativeEndian
	for len(b) >= wire.DirentplusSize {
		node := ne.Uint64(b)
		namelen := int(ne.Uint32(b[wire.EntryOutSize+16:]))
		end := wire.DirentplusSize + namelen
		if namelen > wire.MaxName || end > len(b) {
			return
		}
		name := b[wire.DirentplusSize:end]
		if node != 0 && string(name) != "." && string(name) != ".." {
			e.fs.Forget(node, 1)
		}
		b = b[min(wire.Align8(end), len(b)):]
	}
}
