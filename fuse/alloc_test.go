package fuse_test

import (
	"testing"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/fusetest"
	"github.com/sluicefs/sluice/fuse/wire"
)

// No request of the hot operations allocates.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("not measured: the race detector allocates")
		return
	}
	both(t, func(t *testing.T, o fusetest.Options) {
		k, _ := session(t, newMemFS(), o, nil)
		for name, f := range hotCalls(k) {
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%s: %v allocations a request", name, n)
			}
		}
	})
}

// hotCalls are requests made ready in advance, so that only the server's own
// allocations count.
func hotCalls(k *fusetest.Kernel) map[string]func() {
	raw := func(r *fusetest.Request) func() {
		return func() { r.Unique = 0; k.Repeat(r) }
	}
	read := fuse.ReadIn{Size: 4096}
	write := fuse.WriteIn{Size: 4096}
	return map[string]func(){
		"LOOKUP":      raw(&fusetest.Request{Op: wire.OpLookup, Node: 1, Payload: []byte("5\x00")}),
		"GETATTR":     raw(&fusetest.Request{Op: wire.OpGetattr, Node: 2, Args: make([]byte, 16)}),
		"OPEN":        raw(&fusetest.Request{Op: wire.OpOpen, Node: 2, Args: make([]byte, 8)}),
		"RELEASE":     raw(&fusetest.Request{Op: wire.OpRelease, Node: 2, Args: make([]byte, 24)}),
		"READ":        raw(&fusetest.Request{Op: wire.OpRead, Node: 2, Args: fusetest.Args(&read)}),
		"WRITE":       raw(&fusetest.Request{Op: wire.OpWrite, Node: 2, Args: fusetest.Args(&write), Payload: make([]byte, 4096)}),
		"READDIRPLUS": raw(&fusetest.Request{Op: wire.OpReaddirplus, Node: 1, Args: fusetest.Args(&read)}),
		"FORGET":      raw(&fusetest.Request{Op: wire.OpForget, Node: 2, Args: []byte{1, 0, 0, 0, 0, 0, 0, 0}}),
	}
}

func BenchmarkRequest(b *testing.B) {
	k, _ := session(b, newMemFS(), fusetest.Options{}, nil)
	for name, f := range hotCalls(k) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

var _ channel.Channel = (*fusetest.Kernel)(nil)
