package uring

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/sluicefs/sluice/fuse/channel"
)

// FuzzDescription reads states that no server has written: what is taken
// describes itself in the same bytes, and its size can be computed.
func FuzzDescription(f *testing.F) {
	f.Add(geometry{addr: regionBase, queues: 2, depth: 8, size: 64 << 10}.describe([]byte("device")))
	f.Add([]byte{descriptionVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, device, err := parseDescription(b)
		if err != nil {
			return
		}
		if got := g.describe(device); !bytes.Equal(got, b) {
			t.Errorf("% x describes itself as % x", b, got)
		}
		if n := g.bytes(); n <= 0 || n < int(g.size) {
			t.Errorf("%+v has %d bytes", g, n)
		}
	})
}

// FuzzAssess has a successor find memory that no server has left: whatever is
// in a slot, its request lies inside of it.
func FuzzAssess(f *testing.F) {
	r, err := newRegion(1, 1, 8192)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.close)
	head, payload := r.slot(0, 0)
	s := (&queue{c: &Channel{region: r}}).addSlot(head, payload)
	s.journal = newJournal(head)
	ne := binary.NativeEndian
	f.Add(uint64(42), uint64(42), uint64(42), uint64(0), uint32(5), uint32(39), []byte("name"))
	f.Add(uint64(42), uint64(42), uint64(0), uint64(0), ^uint32(0), uint32(1), []byte{})
	f.Fuzz(func(t *testing.T, id, unique, taken, done uint64, size, op uint32, saved []byte) {
		clear(head)
		ne.PutUint32(head[4:], op)
		ne.PutUint64(head[8:], unique)
		ne.PutUint64(head[commitAt:], id)
		ne.PutUint32(head[payloadAt:], size)
		ne.PutUint64(head[takenAt:], taken)
		ne.PutUint64(head[doneAt:], done)
		ne.PutUint32(head[sizeAt:], size)
		copy(head[savedAt:], head[:channel.HeaderSize])
		copy(head[inputAt:], saved)
		if s.assess() == redo && s.lend() && len(s.req.Payload) > len(payload) {
			t.Errorf("a payload of %d bytes", len(s.req.Payload))
		}
	})
}
