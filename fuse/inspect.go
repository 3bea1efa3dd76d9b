package fuse

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A RunningRequest is one that waits for its answer.
type RunningRequest struct {
	Unique uint64
	Op     string
	Node   uint64
	PID    uint32
	Age    time.Duration
}

// Running returns the requests that wait for their answer, the oldest first.
func (s *Server) Running() []RunningRequest {
	var all []RunningRequest
	now := time.Now()
	s.e.inflight.each(func(r *Request) {
		if a, ok := r.summarize(r.unique.Load()); ok && a.unique != 0 {
			all = append(all, RunningRequest{a.unique, a.op.String(), a.node, a.pid, now.Sub(a.start)})
		}
	})
	slices.SortFunc(all, func(a, b RunningRequest) int { return cmp.Compare(b.Age, a.Age) })
	return all
}

// Latency returns how long the requests of an operation took, by its name as
// in "GETATTR"; the zero Histogram if there were none.
func (s *Server) Latency(op string) Histogram {
	code, ok := wire.ParseOpcode(op)
	if !ok || code >= wire.OpLimit {
		return Histogram{}
	}
	return s.e.metrics.histogram(code)
}

// Latencies returns the histograms of all operations that were asked for, by
// name.
func (s *Server) Latencies() map[string]Histogram {
	all := make(map[string]Histogram)
	for op := range wire.Opcode(wire.OpLimit) {
		if h := s.e.metrics.histogram(op); h.Count > 0 {
			all[op.String()] = h
		}
	}
	return all
}

// Stats counts what a session has seen besides ordinary requests.
type Stats struct {
	Running    int64  // requests without an answer
	Forgets    uint64 // FORGET and BATCH_FORGET messages
	Interrupts uint64 // INTERRUPT messages
	Cancelled  uint64 // requests whose handler was told to stop
	Expired    uint64 // requests that were answered by a deadline
	Malformed  uint64 // messages that made no sense
	Unanswered uint64 // answers that the kernel no longer wanted
	Refused    uint64 // answers that the kernel found malformed
	Panics     uint64 // handlers that panicked
	Notified   uint64 // notifications sent
	Merged     uint64 // notifications that were merged into others
	Queued     int    // notifications that wait
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	st := &s.e.stats
	out := Stats{
		Running: s.e.inflight.count.Load(), Forgets: s.e.metrics.forgets.Load(),
		Interrupts: st.interrupts.Load(), Cancelled: st.cancelled.Load(), Expired: st.expired.Load(), Malformed: st.malformed.Load(),
		Unanswered: st.unanswered.Load(), Refused: st.refused.Load(), Panics: st.panics.Load(),
	}
	q := s.e.notify
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.sent[1:] {
		out.Notified += n
	}
	out.Merged, out.Queued = q.merged, len(q.queue)
	return out
}

// TransportInfo says how a session's requests arrive and what it uses.
type TransportInfo struct {
	Name     string            // "device", "io_uring", ...
	Minor    uint32            // protocol 7.Minor
	Flags    uint64            // CAP_... in use
	MaxWrite int               // bytes
	MaxRead  int               // bytes
	Off      map[string]string // what is not in use, and why
}

// String returns one line for logs.
func (t TransportInfo) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, protocol 7.%d, requests up to %d bytes, %s", t.Name, t.Minor, t.MaxRead, CapabilityNames(t.Flags))
	for _, k := range slices.Sorted(maps.Keys(t.Off)) {
		fmt.Fprintf(&b, "; no %s: %s", k, t.Off[k])
	}
	return b.String()
}

// Transport tells how requests arrive, what was agreed with the kernel, and
// why other things are off. It is complete once WaitMount has returned.
func (s *Server) Transport() TransportInfo {
	caps := s.ch.Caps()
	t := TransportInfo{Name: caps.Transport, Off: maps.Clone(caps.Why)}
	if t.Off == nil {
		t.Off = make(map[string]string)
	}
	select {
	case <-s.e.ready:
	default:
		return t
	}
	p := s.e.params
	t.Minor, t.Flags, t.MaxWrite = p.Minor, p.Flags, int(p.MaxWrite)
	t.MaxRead = int(p.MaxPages) * pageSize
	s.whyNot(&t, caps)
	return t
}

// whyNot gives the reasons that the channel does not know.
func (s *Server) whyNot(t *TransportInfo, caps channel.Caps) {
	if t.Flags&CAP_PASSTHROUGH != 0 {
		return
	}
	o := &s.e.opts
	switch {
	case s.e.initIn.Flags64()&CAP_PASSTHROUGH == 0:
		t.Off["passthrough"] = "the kernel does not offer it (Linux 6.9)"
	case !caps.Backing:
		t.Off["passthrough"] = "the " + caps.Transport + " channel has no backing files"
	case (o.ExtraCapabilities|t.Flags)&CAP_WRITEBACK_CACHE != 0:
		t.Off["passthrough"] = "it excludes the write-back cache"
	default:
		t.Off["passthrough"] = "switched off by an option"
	}
}

// DebugData returns the state of the session for people: transport, counters
// and the requests that run.
func (s *Server) DebugData() string {
	var b strings.Builder
	fmt.Fprintf(&b, "transport: %v\nstats: %+v\n", s.Transport(), s.Stats())
	for _, r := range s.Running() {
		fmt.Fprintf(&b, "running: %d %s node %d pid %d for %v\n", r.Unique, r.Op, r.Node, r.PID, r.Age)
	}
	return b.String()
}
