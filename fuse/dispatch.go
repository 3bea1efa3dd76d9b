package fuse

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/wire"
)

var nativeEndian = binary.NativeEndian

// An opFunc carries out one operation: it calls the file system and leaves
// the length of the answer's body in r.n.
type opFunc func(e *engine, r *Request) Status

// reply makes T, the Out type that the operation's function has filled, the
// body of the answer.
func reply[T any](r *Request, st Status) Status {
	if st == OK {
		var t T
		r.n = int(unsafe.Sizeof(t))
	}
	return st
}

// rawOps are the operations that each RawFileSystem has.
var rawOps = [wire.OpLimit]opFunc{
	wire.OpLookup:        opLookup,
	wire.OpGetattr:       opGetattr,
	wire.OpSetattr:       opSetattr,
	wire.OpReadlink:      opReadlink,
	wire.OpSymlink:       opSymlink,
	wire.OpMknod:         opMknod,
	wire.OpMkdir:         opMkdir,
	wire.OpUnlink:        opUnlink,
	wire.OpRmdir:         opRmdir,
	wire.OpRename:        opRename,
	wire.OpRename2:       opRename,
	wire.OpLink:          opLink,
	wire.OpOpen:          opOpen,
	wire.OpRead:          opRead,
	wire.OpWrite:         opWrite,
	wire.OpStatfs:        opStatfs,
	wire.OpRelease:       opRelease,
	wire.OpFsync:         opFsync,
	wire.OpSetxattr:      opSetxattr,
	wire.OpGetxattr:      opGetxattr,
	wire.OpListxattr:     opListxattr,
	wire.OpRemovexattr:   opRemovexattr,
	wire.OpFlush:         opFlush,
	wire.OpOpendir:       opOpendir,
	wire.OpReaddir:       opReaddir,
	wire.OpReaddirplus:   opReaddirplus,
	wire.OpReleasedir:    opReleasedir,
	wire.OpFsyncdir:      opFsyncdir,
	wire.OpGetlk:         opGetlk,
	wire.OpSetlk:         opSetlk,
	wire.OpSetlkw:        opSetlkw,
	wire.OpAccess:        opAccess,
	wire.OpCreate:        opCreate,
	wire.OpTmpfile:       opTmpfile,
	wire.OpIoctl:         opIoctl,
	wire.OpFallocate:     opFallocate,
	wire.OpLseek:         opLseek,
	wire.OpCopyFileRange: opCopyFileRange,
	wire.OpStatx:         opStatx,
	wire.OpDestroy:       opDestroy,
}

// entryOp and attrOp clear the answer first: what the handler leaves out is
// zero and nothing of an earlier request shows.
func entry(r *Request) *EntryOut {
	out := outAs[EntryOut](r)
	*out = EntryOut{}
	return out
}

func attr(r *Request) *AttrOut {
	out := outAs[AttrOut](r)
	*out = AttrOut{}
	return out
}

func opLookup(e *engine, r *Request) Status {
	return reply[EntryOut](r, e.fs.Lookup(r.cancel, &r.in.InHeader, r.name, entry(r)))
}

func opGetattr(e *engine, r *Request) Status {
	return reply[AttrOut](r, e.fs.GetAttr(r.cancel, inAs[GetAttrIn](r), attr(r)))
}

func opSetattr(e *engine, r *Request) Status {
	return reply[AttrOut](r, e.fs.SetAttr(r.cancel, inAs[SetAttrIn](r), attr(r)))
}

func opReadlink(e *engine, r *Request) Status {
	target, st := e.fs.Readlink(r.cancel, &r.in.InHeader)
	if st == OK {
		if len(target) > len(r.out) {
			return Status(syscall.ENAMETOOLONG)
		}
		r.n = copy(r.out, target)
	}
	return st
}

// opSymlink has the link's name first and its target second on the wire; the
// API has them the other way round.
func opSymlink(e *engine, r *Request) Status {
	return reply[EntryOut](r, e.fs.Symlink(r.cancel, &r.in.InHeader, r.name2, r.name, entry(r)))
}

func opMknod(e *engine, r *Request) Status {
	return reply[EntryOut](r, e.fs.Mknod(r.cancel, inAs[MknodIn](r), r.name, entry(r)))
}

func opMkdir(e *engine, r *Request) Status {
	return reply[EntryOut](r, e.fs.Mkdir(r.cancel, inAs[MkdirIn](r), r.name, entry(r)))
}

func opUnlink(e *engine, r *Request) Status {
	return e.fs.Unlink(r.cancel, &r.in.InHeader, r.name)
}

func opRmdir(e *engine, r *Request) Status {
	return e.fs.Rmdir(r.cancel, &r.in.InHeader, r.name)
}

func opRename(e *engine, r *Request) Status {
	return e.fs.Rename(r.cancel, inAs[RenameIn](r), r.name, r.name2)
}

func opLink(e *engine, r *Request) Status {
	return reply[EntryOut](r, e.fs.Link(r.cancel, inAs[LinkIn](r), r.name, entry(r)))
}

func opAccess(e *engine, r *Request) Status {
	return e.fs.Access(r.cancel, inAs[AccessIn](r))
}

func opStatfs(e *engine, r *Request) Status {
	out := outAs[StatfsOut](r)
	*out = StatfsOut{}
	st := reply[StatfsOut](r, e.fs.StatFs(r.cancel, &r.in.InHeader, out))
	if st == ENOSYS { // statfs(2) would fail, and with it df and many installers
		*out = StatfsOut{}
		return reply[StatfsOut](r, OK)
	}
	return st
}

func opStatx(e *engine, r *Request) Status {
	out := outAs[StatxOut](r)
	*out = StatxOut{}
	return reply[StatxOut](r, e.fs.Statx(r.cancel, inAs[StatxIn](r), out))
}

func opDestroy(*engine, *Request) Status { return OK }

// forget handles the two operations that have no answer. It reports whether
// the message was one of them.
func (e *engine) forget(r *Request, op wire.Opcode) bool {
	switch op {
	case wire.OpForget:
		e.forgetNode(r.in.NodeId, inAs[ForgetIn](r).Nlookup)
	case wire.OpBatchForget:
		b := r.payload
		count := nativeEndian.Uint32(r.in.args[:])
		if uint64(count)*wire.ForgetOneSize > uint64(len(b)) {
			e.stats.malformed.Add(1)
			return true
		}
		for range count {
			e.forgetNode(nativeEndian.Uint64(b), nativeEndian.Uint64(b[8:]))
			b = b[wire.ForgetOneSize:]
		}
	default:
		return false
	}
	return true
}

func (e *engine) forgetNode(node, nlookup uint64) {
	if node != e.probeNode.Load() {
		e.fs.Forget(node, nlookup)
	}
}
