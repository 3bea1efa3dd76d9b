package fusetest

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// An Exchange is one recorded request with its answer: a line of JSON in a
// recording.
type Exchange struct {
	Seq     uint64        `json:"seq"` // order of arrival
	At      time.Duration `json:"at"`  // arrival, since the recording began
	Header  []byte        `json:"header"`
	Args    []byte        `json:"args,omitempty"`
	Payload []byte        `json:"payload,omitempty"`
	None    bool          `json:"none,omitempty"` // no answer
	Errno   syscall.Errno `json:"errno,omitempty"`
	Reply   []byte        `json:"reply,omitempty"`
}

// Record returns a function for fuse.MountOptions.WrapChannel that writes all
// traffic of the session to w, one Exchange a line, in the order in which
// requests were answered. A session that is recorded has no passthrough and
// cannot be handed over.
func Record(w io.Writer) func(channel.Channel) channel.Channel {
	return func(ch channel.Channel) channel.Channel {
		return &recorder{Channel: ch, enc: json.NewEncoder(w), start: time.Now()}
	}
}

type recorder struct {
	channel.Channel
	next  channel.Handler
	start time.Time
	seq   atomic.Uint64

	mu  sync.Mutex // guards enc
	enc *json.Encoder
}

// Caps hides what a recording would miss.
func (r *recorder) Caps() channel.Caps {
	caps := r.Channel.Caps()
	caps.Backing = false
	return caps
}

// Serve is part of channel.Channel.
func (r *recorder) Serve(h channel.Handler) error {
	r.next = h
	return r.Channel.Serve(r)
}

// Handle is part of channel.Handler.
func (r *recorder) Handle(m *channel.Request) {
	s := &recordedSlot{r: r, m: m, orig: m.Slot}
	s.x = Exchange{
		Seq: r.seq.Add(1), At: time.Since(r.start),
		Header: slices.Clone(m.Header), Payload: slices.Clone(m.Payload), Args: slices.Clone(m.Args),
	}
	if m.Split && len(m.Header) >= wire.InHeaderSize {
		l, _ := wire.Opcode(ne.Uint32(m.Header[4:])).Layout()
		s.x.Args = s.x.Args[:min(int(l.In), len(s.x.Args))]
	}
	m.Slot = s
	r.next.Handle(m)
}

// recordedSlot stands before a request's slot until it is answered.
type recordedSlot struct {
	r    *recorder
	m    *channel.Request
	orig channel.Slot
	x    Exchange
}

// Reply is part of channel.Slot.
func (s *recordedSlot) Reply(errno syscall.Errno, n int) error {
	s.m.Slot = s.orig
	s.x.Errno, s.x.Reply = errno, slices.Clone(s.m.Out[:n])
	s.write()
	return s.orig.Reply(errno, n)
}

// Release is part of channel.Slot.
func (s *recordedSlot) Release() {
	s.m.Slot = s.orig
	s.x.None = true
	s.write()
	s.orig.Release()
}

// Block is part of channel.Slot.
func (s *recordedSlot) Block() { s.orig.Block() }

func (s *recordedSlot) write() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	_ = s.r.enc.Encode(&s.x) // the session matters more than its recording
}

// ReadRecording reads what Record wrote, in the order of arrival.
func ReadRecording(r io.Reader) ([]Exchange, error) {
	var all []Exchange
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var x Exchange
		err := dec.Decode(&x)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("recording, exchange %d: %w", len(all), err)
		}
		if len(x.Header) != wire.InHeaderSize {
			return nil, fmt.Errorf("recording, exchange %d: header of %d bytes", len(all), len(x.Header))
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b Exchange) int { return cmp.Compare(a.Seq, b.Seq) })
	return all, nil
}

// A Difference is an answer that is not as it was recorded.
type Difference struct {
	Op     wire.Opcode
	Unique uint64
	Want   Reply
	Got    Reply
}

// String says what differs.
func (d Difference) String() string {
	return fmt.Sprintf("%v %d: errno %d with %d bytes, recorded errno %d with %d bytes",
		d.Op, d.Unique, int(d.Got.Errno), len(d.Got.Body), int(d.Want.Errno), len(d.Want.Body))
}

// Replay puts recorded requests to the server of k, one at a time, INIT among
// them, and returns the answers that differ.
func Replay(k *Kernel, recording []Exchange) []Difference {
	var diffs []Difference
	for _, x := range recording {
		h, _ := wire.ParseInHeader(append(slices.Clone(x.Header), make([]byte, len(x.Args)+len(x.Payload))...))
		ext := int(h.TotalExtlen) * 8
		got := k.Call(&Request{
			Op: h.Opcode, Node: h.NodeID, Unique: h.Unique, UID: h.UID, GID: h.GID, PID: h.PID,
			Args: x.Args, Payload: x.Payload, Ext: ext, plain: true,
		})
		want := Reply{Errno: x.Errno, Body: x.Reply, None: x.None}
		if got.Errno != want.Errno || got.None != want.None || !bytes.Equal(got.Body, want.Body) {
			diffs = append(diffs, Difference{h.Opcode, h.Unique, want, got})
		}
	}
	return diffs
}
