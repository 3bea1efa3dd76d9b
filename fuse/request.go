package fuse

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// Pending is what a handler returns when the answer will be given later,
// through an [Answer], by any goroutine.
const Pending Status = -1 << 30

// A Request is one operation that the kernel asks for, as a [Handler] sees it.
// It is lent until the handler returns, or, if that returned [Pending], until
// its [Answer] was given; the same value then serves another operation.
type Request struct {
	// in is what the typed views of the arguments lie on; it must stay first,
	// so that it is 8-aligned.
	in struct {
		InHeader
		args [channel.MaxArgs]byte
	}

	eng      *engine
	msg      *channel.Request
	layout   wire.Layout
	payload  []byte // what follows the fixed arguments, without the extension area
	ext      []byte
	out      []byte
	n        int // bytes of out that are the answer's body
	name     string
	name2    string
	resent   bool
	slot     int32 // in the in-flight table
	limit    *classLimit
	deadline *time.Timer
	charge   int64 // bytes that are charged to limit
	start    time.Time
	shard    uint32 // which histograms
	dirents  DirEntryList
	vector   [1][]byte
	scratch  []byte // copy of input where it would be overwritten

	// turn counts the operations that this value has served, times two, and
	// is odd while one runs. Whoever moves it from odd to even gives the answer.
	turn   atomic.Uint64
	unique atomic.Uint64 // 0 while none runs

	mu        sync.Mutex // guards what is below; a leaf
	cancel    chan struct{}
	cancelled bool
	about     summary
}

// A summary is what others may know of a running request.
type summary struct {
	unique uint64
	op     wire.Opcode // below wire.OpLimit
	pid    uint32
	node   uint64
	start  time.Time
}

// Header returns the request's header.
func (r *Request) Header() *InHeader { return &r.in.InHeader }

// Op returns the operation.
func (r *Request) Op() wire.Opcode { return wire.Opcode(r.in.Opcode) }

// Names returns the names that the request carries, "" for those that it does
// not have. They may be kept.
func (r *Request) Names() (name, second string) { return r.name, r.name2 }

// Data returns the data of a WRITE, SETXATTR, IOCTL or the like. It is lent
// like the request, and is overwritten by the answer.
func (r *Request) Data() []byte { return r.payload }

// Resent reports whether the request was handed out before, to a server that
// did not answer it (see [Notifier.Resend]): it may have been carried out.
func (r *Request) Resent() bool { return r.resent }

// Started returns when the request arrived.
func (r *Request) Started() time.Time { return r.start }

// Cancel returns the channel that is closed when the caller gives up. See
// [InterruptMode] for when that is.
func (r *Request) Cancel() <-chan struct{} { return r.cancel }

// Extensions decodes the extension area: the security labels and the
// supplementary group that come with operations that create something, if
// CAP_SECURITY_CTX or CAP_CREATE_SUPP_GROUP is in use. The values are lent
// like the request.
func (r *Request) Extensions() (wire.Extensions, bool) { return wire.ParseExtensions(r.ext) }

// Answer takes the answer of r to where it can be given later; the handler
// then returns [Pending].
func (r *Request) Answer() Answer { return Answer{r, r.turn.Load(), nil} }

// An Answer gives the answer to a request whose handler returned [Pending].
// The first call of one of its methods counts; later ones, also those of
// copies, do nothing and report false. It may be used by any goroutine.
type Answer struct {
	r    *Request
	turn uint64
	view NodeMap // or nil
}

// Valid reports whether a is an Answer at all: [Server.Answer] gives one that
// is not if the request has ended.
func (a Answer) Valid() bool { return a.r != nil }

// Give ends the request with st. For OK, what the handler or its caller has
// put into the operation's Out struct is the answer's body.
func (a Answer) Give(st Status) bool {
	return a.give(func(*Request) Status { return st })
}

// GiveData ends a READ, READLINK, GETXATTR or LISTXATTR with a copy of data,
// cut to what was asked for.
func (a Answer) GiveData(data []byte) bool {
	return a.give(func(r *Request) Status {
		r.n = copy(r.out[:r.wanted()], data)
		return OK
	})
}

// GiveWritten ends a WRITE of which n bytes were written.
func (a Answer) GiveWritten(n uint32) bool {
	return a.give(func(r *Request) Status {
		*outAs[WriteOut](r) = WriteOut{Size: n}
		r.n = int(unsafe.Sizeof(WriteOut{}))
		return OK
	})
}

func (a Answer) give(body func(*Request) Status) bool {
	if a.r == nil || a.turn&1 == 0 || !a.r.turn.CompareAndSwap(a.turn, a.turn+1) {
		return false
	}
	st := body(a.r)
	if a.view != nil && st == OK {
		a.r.mapAnswer(a.view)
	}
	if st == OK && a.r.n == 0 {
		a.r.n = int(a.r.layout.Out)
	}
	a.r.finish(st)
	return true
}

// wanted is how many bytes of data the caller asked for, within the room that
// there is.
func (r *Request) wanted() int {
	n := len(r.out)
	switch r.Op() {
	case wire.OpRead, wire.OpReaddir, wire.OpReaddirplus:
		n = min(n, int(inAs[ReadIn](r).Size))
	case wire.OpGetxattr, wire.OpListxattr:
		n = min(n, int(inAs[GetXAttrIn](r).Size))
	}
	return n
}

// inAs views the header and arguments of r as T, one of the In types.
func inAs[T any](r *Request) *T { return (*T)(unsafe.Pointer(&r.in)) }

// outAs views the room for the answer as T, one of the Out types; begin has
// checked that there is enough.
func outAs[T any](r *Request) *T { return (*T)(unsafe.Pointer(unsafe.SliceData(r.out))) }

// begin takes over a message: it checks it and splits it. A status other than
// OK is the answer.
func (r *Request) begin(m *channel.Request, op wire.Opcode) Status {
	r.msg, r.out, r.n = m, m.Out, 0
	r.payload, r.ext, r.name, r.name2 = nil, nil, "", ""
	r.resent = m.Resent || r.in.Unique&wire.UniqueResend != 0
	var known bool
	if r.layout, known = op.Layout(); !known || op >= wire.OpLimit {
		return ENOSYS
	}
	if len(r.out) < minOut {
		return EIO
	}
	if st := r.split(m, op); !st.Ok() {
		return st
	}
	return r.cut(op)
}

// minOut is the room that any fixed answer needs: StatxOut.
const minOut = 288

// split copies the fixed arguments and finds what follows them.
func (r *Request) split(m *channel.Request, op wire.Opcode) Status {
	size := r.eng.argSize(op)
	if op == wire.OpInit { // grew over time
		size = min(size, max(len(m.Args), 8))
	}
	args, rest := m.Args, m.Payload
	if op == wire.OpNotifyReply && m.Split && retrieveInPayload(args, rest) {
		args, rest = rest[:size], rest[size:]
	}
	n := copy(r.in.args[:size], args)
	clear(r.in.args[n:]) // RENAME is read as RENAME2: its flags are 0
	if n < size {
		return EINVAL
	}
	r.payload = rest
	if !m.Split {
		r.payload = args[n:]
	}
	if ext := int(r.in.TotalExtlen) * 8; ext > 0 {
		if ext > len(r.payload) {
			return EINVAL
		}
		border := len(r.payload) - ext
		r.payload, r.ext = r.payload[:border], r.payload[border:]
		if m.Shared {
			r.ext = r.keep(r.ext)
		}
	}
	return OK
}

// retrieveInPayload reports whether the struct of a NOTIFY_REPLY that came over
// a ring lies before its data: Linux (6.18) gives the message an empty first
// argument. The struct's size, at offset 16, tells.
func retrieveInPayload(args, payload []byte) bool {
	const size, at = 40, 16
	if len(payload) < size || len(args) < size || uint64(nativeEndian.Uint32(args[at:])) == uint64(len(payload)) {
		return false
	}
	return uint64(nativeEndian.Uint32(payload[at:])) == uint64(len(payload)-size)
}

// keep copies b to where the answer does not overwrite it.
func (r *Request) keep(b []byte) []byte {
	r.scratch = append(r.scratch[:0], b...)
	return r.scratch
}

// cut takes the names off the payload.
func (r *Request) cut(op wire.Opcode) Status {
	if r.layout.Names == 0 {
		return OK
	}
	b, rest, ok := wire.CutString(r.payload)
	if !ok {
		return EINVAL
	}
	if st := checkName(op, b); !st.Ok() {
		return st
	}
	r.name = r.eng.names.String(b)
	if r.layout.Names == 2 {
		if b, rest, ok = wire.CutString(rest); !ok || len(b) == 0 {
			return EINVAL
		}
		if op != wire.OpSymlink { // whose second string is a target
			if st := checkName(op, b); !st.Ok() {
				return st
			}
		}
		r.name2 = r.eng.names.String(b)
	}
	r.payload = rest
	return OK
}

func checkName(op wire.Opcode, b []byte) Status {
	switch op {
	case wire.OpTmpfile: // a name without meaning
		return OK
	case wire.OpGetxattr, wire.OpSetxattr, wire.OpRemovexattr: // may have slashes
		if len(b) == 0 || len(b) > wire.MaxName {
			return EINVAL
		}
		return OK
	}
	if len(b) > wire.MaxName {
		return Status(syscall.ENAMETOOLONG)
	}
	if !wire.ValidName(b) {
		return EINVAL
	}
	return OK
}

// announce begins what others may do to r by its unique.
func (r *Request) announce(unique uint64) {
	r.mu.Lock()
	r.unique.Store(unique)
	r.about = summary{unique, r.Op(), r.in.Pid, r.in.NodeId, r.start}
	r.mu.Unlock()
}

// summarize tells what r does, if it still serves unique.
func (r *Request) summarize(unique uint64) (summary, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.about, r.unique.Load() == unique
}

// interrupt closes the cancel channel if r still serves unique, and reports
// whether it did.
func (r *Request) interrupt(unique uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unique.Load() != unique || r.cancelled {
		return false
	}
	r.cancelled = true
	close(r.cancel)
	return true
}

// settle ends what others may do to r by its unique.
func (r *Request) settle() {
	r.mu.Lock()
	r.unique.Store(0)
	if r.cancelled {
		r.cancelled = false
		r.cancel = make(chan struct{})
	}
	r.mu.Unlock()
}

// structBytes views a protocol struct as its bytes.
func structBytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
