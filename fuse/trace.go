package fuse

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A TraceRecord is one line of a JSON trace: a request and its answer, or a
// notification.
type TraceRecord struct {
	Time   time.Time     `json:"time"` // when the request arrived
	Unique uint64        `json:"unique,omitempty"`
	Op     string        `json:"op"`
	Node   uint64        `json:"node,omitempty"`
	PID    uint32        `json:"pid,omitempty"`
	UID    uint32        `json:"uid"`
	Name   string        `json:"name,omitempty"`
	Second string        `json:"second,omitempty"`
	Size   int           `json:"size"`            // bytes of the answer's body
	Errno  int           `json:"errno,omitempty"` // 0 = success
	Took   time.Duration `json:"took_ns,omitempty"`
}

// tracer writes what happens. Only what is configured is set.
type tracer struct {
	text *log.Logger   // readable lines, one for each direction
	slow time.Duration // log requests that took longer; 0 = none
	slog *log.Logger

	mu   sync.Mutex // guards json; a leaf
	json *json.Encoder
}

// SetDebug switches the readable trace.
func (e *engine) SetDebug(on bool) {
	e.retrace(func(t *tracer) {
		if t.text = nil; on {
			t.text = e.logger
		}
	})
	e.fs.SetDebug(on)
}

// retrace replaces the tracer by a changed copy.
func (e *engine) retrace(change func(*tracer)) {
	for {
		old := e.trace.Load()
		t := &tracer{}
		if old != nil {
			t.text, t.slow, t.slog, t.json = old.text, old.slow, old.slog, old.json
		}
		change(t)
		next := t
		if t.text == nil && t.slow == 0 && t.json == nil {
			next = nil
		}
		if e.trace.CompareAndSwap(old, next) {
			return
		}
	}
}

// TraceJSON writes one JSON object a line for each request from now on
// ([TraceRecord]) to w; nil stops it. Requests that are still running when it
// starts may be missing. w is written to by one goroutine at a time, on the
// path of the answers: it should not be slow.
func (s *Server) TraceJSON(w io.Writer) {
	s.e.retrace(func(t *tracer) {
		if t.json = nil; w != nil {
			t.json = json.NewEncoder(w)
		}
	})
}

// LogSlow logs each request that took longer than d; 0 stops it.
func (s *Server) LogSlow(d time.Duration) {
	s.e.retrace(func(t *tracer) { t.slow, t.slog = d, s.e.logger })
}

func (t *tracer) received(r *Request) {
	if t.text == nil {
		return
	}
	t.text.Printf("rx %d: %v n%d%s %s p%d%s", r.in.Unique, r.Op(), r.in.NodeId, namesText(r), inText(r), r.in.Pid, extText(r))
}

// extText says what the extension area has.
func extText(r *Request) string {
	if len(r.ext) == 0 {
		return ""
	}
	x, ok := r.Extensions()
	if !ok {
		return fmt.Sprintf(" ext{malformed, %d bytes}", len(r.ext))
	}
	var parts []string
	for _, c := range x.Security {
		parts = append(parts, fmt.Sprintf("secctx=[%s:%q]", c.Name, c.Value))
	}
	if len(x.Groups) > 0 {
		parts = append(parts, fmt.Sprintf("groups=%d", x.Groups))
	}
	return " ext{" + strings.Join(parts, " ") + "}"
}

func namesText(r *Request) string {
	switch {
	case r.name2 != "":
		return fmt.Sprintf(" %q %q", r.name, r.name2)
	case r.name != "":
		return fmt.Sprintf(" %q", r.name)
	}
	return ""
}

// inText says what the arguments are, where they say much.
func inText(r *Request) string {
	switch r.Op() {
	case wire.OpRead, wire.OpReaddir, wire.OpReaddirplus:
		in := inAs[ReadIn](r)
		return fmt.Sprintf("fh %d [%d +%d)", in.Fh, in.Offset, in.Size)
	case wire.OpWrite:
		in := inAs[WriteIn](r)
		return fmt.Sprintf("fh %d [%d +%d)", in.Fh, in.Offset, in.Size)
	case wire.OpOpen, wire.OpOpendir, wire.OpCreate:
		return fmt.Sprintf("flags %#o", inAs[OpenIn](r).Flags)
	case wire.OpNotifyReply:
		in := inAs[NotifyRetrieveIn](r)
		return fmt.Sprintf("[%d +%d) %d bytes", in.Offset, in.Size, len(r.payload))
	case wire.OpForget:
		return fmt.Sprintf("-%d", inAs[ForgetIn](r).Nlookup)
	case wire.OpInit:
		in := inAs[InitIn](r)
		return fmt.Sprintf("%d.%d readahead %d flags %#x", in.Major, in.Minor, in.MaxReadAhead, in.Flags64())
	}
	return ""
}

func (t *tracer) answered(r *Request, errno syscall.Errno, n int) {
	took := time.Since(r.start)
	if t.text != nil {
		if errno != 0 {
			t.text.Printf("tx %d:     %d=%v", r.in.Unique, int(errno), errno)
		} else {
			t.text.Printf("tx %d:     OK, %s%d bytes", r.in.Unique, outText(r), n)
		}
	}
	if t.slow > 0 && took > t.slow && !r.start.IsZero() {
		t.slog.Printf("fuse: slow: %v node %d%s pid %d took %v (errno %d)", r.Op(), r.in.NodeId, namesText(r), r.in.Pid, took, int(errno))
	}
	t.write(&TraceRecord{
		Time: r.start, Unique: r.in.Unique, Op: r.Op().String(), Node: r.in.NodeId, PID: r.in.Pid,
		UID: r.in.Uid, Name: r.name, Second: r.name2, Size: n, Errno: int(errno), Took: took,
	})
}

// outText says what the answer is, where it says much.
func outText(r *Request) string {
	switch {
	case r.layout.Flags&wire.Entry != 0 && r.Op() != wire.OpReaddirplus:
		out := outAs[EntryOut](r)
		return fmt.Sprintf("n%d g%d tE %v tA %v mode %#o size %d, ", out.NodeId, out.Generation,
			out.EntryTimeout(), out.AttrTimeout(), out.Attr.Mode, out.Attr.Size)
	case r.Op() == wire.OpOpen || r.Op() == wire.OpOpendir:
		out := outAs[OpenOut](r)
		return fmt.Sprintf("fh %d flags %#x, ", out.Fh, out.OpenFlags)
	}
	return ""
}

func (t *tracer) refused(r *Request, st Status) {
	if t.text != nil {
		t.text.Printf("rx %d: opcode %d n%d: refused: %v", r.in.Unique, r.in.Opcode, r.in.NodeId, st)
	}
}

func (t *tracer) notified(n *Notice, st Status) {
	if t.text != nil {
		t.text.Printf("tx notify %v n%d %q: %v", n.code, n.node, n.name, st)
	}
	t.write(&TraceRecord{Time: time.Now(), Op: "NOTIFY_" + n.code.String(), Node: n.node, Name: n.name, Size: int(n.size), Errno: int(st)})
}

func (t *tracer) write(rec *TraceRecord) {
	if t.json == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.json.Encode(rec) // a full disk must not end the session
}
