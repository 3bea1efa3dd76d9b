package fusetest

import (
	"github.com/sluicefs/sluice/fuse/wire"
)

// check finds what a kernel would refuse in an answer, and keeps the books.
func (k *Kernel) check(r *Request, reply Reply) {
	l, known := r.Op.Layout()
	if !known {
		return
	}
	silent := l.Flags&wire.NoReply != 0
	switch {
	case silent && !reply.None:
		k.fault("%v was answered; it has no answer", r.Op)
	case !silent && reply.None && r.Op != wire.OpInterrupt && r.Refuse == 0 && !k.over():
		k.fault("%v was not answered", r.Op)
	}
	if reply.Errno >= 512 {
		k.fault("%v: errno %d", r.Op, reply.Errno)
	}
	if reply.Errno != 0 && len(reply.Body) > 0 {
		k.fault("%v: an error with a body of %d bytes", r.Op, len(reply.Body))
	}
	if reply.Errno != 0 || reply.None {
		return
	}
	k.checkSize(r, l, len(reply.Body))
	k.count(r, reply.Body)
}

func (k *Kernel) checkSize(r *Request, l wire.Layout, n int) {
	if l.Flags&wire.VarOut == 0 && k.opts.Minor >= 9 && n != int(l.Out) {
		k.fault("%v: answer of %d bytes, not %d", r.Op, n, l.Out)
	}
	if len(r.Args) < int(l.In) {
		return // on a ring the rest is rubbish, which the server cannot tell
	}
	var most int
	switch r.Op {
	case wire.OpRead, wire.OpReaddir, wire.OpReaddirplus:
		most = int(ne.Uint32(r.Args[16:]))
	case wire.OpGetxattr, wire.OpListxattr:
		most = max(int(ne.Uint32(r.Args)), 8)
	case wire.OpReadlink:
		most = 4095
	default:
		return
	}
	if n > most {
		k.fault("%v: answer of %d bytes where %d were asked for", r.Op, n, most)
	}
}

// count enters the references that an answer gives.
func (k *Kernel) count(r *Request, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch r.Op {
	case wire.OpLookup, wire.OpSymlink, wire.OpMknod, wire.OpMkdir, wire.OpLink, wire.OpCreate, wire.OpTmpfile:
		if len(body) >= wire.EntryOutSize {
			k.refer(ne.Uint64(body))
		}
	case wire.OpReaddirplus:
		for len(body) >= wire.DirentplusSize {
			namelen := int(ne.Uint32(body[wire.EntryOutSize+16:]))
			end := wire.DirentplusSize + namelen
			if namelen == 0 || end > len(body) {
				k.faults = append(k.faults, "READDIRPLUS: a record leaves the answer")
				return
			}
			if name := string(body[wire.DirentplusSize:end]); name != "." && name != ".." {
				k.refer(ne.Uint64(body))
			}
			body = body[min(wire.Align8(end), len(body)):]
		}
	}
}

func (k *Kernel) refer(node uint64) {
	if node != 0 {
		k.refs[node]++
	}
}

// Forget takes n references to node away, at most those that there are.
func (k *Kernel) Forget(node, n uint64) {
	k.mu.Lock()
	n = min(n, k.refs[node])
	if k.refs[node] -= n; k.refs[node] == 0 {
		delete(k.refs, node)
	}
	k.mu.Unlock()
	if n > 0 {
		k.Call(&Request{Op: wire.OpForget, Node: node, Args: ne.AppendUint64(nil, n)})
	}
}

// ForgetAll gives all references back, in batches, as an unmount does not but
// a shrinker would.
func (k *Kernel) ForgetAll() {
	k.mu.Lock()
	refs := k.refs
	k.refs = make(map[uint64]uint64)
	k.mu.Unlock()
	var batch []byte
	flush := func() {
		if count := len(batch) / wire.ForgetOneSize; count > 0 {
			args := ne.AppendUint64(nil, uint64(count))
			k.Call(&Request{Op: wire.OpBatchForget, Args: args, Payload: batch})
			batch = batch[:0]
		}
	}
	for node, n := range refs {
		batch = ne.AppendUint64(ne.AppendUint64(batch, node), n)
		if len(batch) >= 1<<15 {
			flush()
		}
	}
	flush()
}
