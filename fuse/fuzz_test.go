package fuse_test

import (
	"bytes"
	"testing"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/fusetest"
	"github.com/sluicefs/sluice/fuse/wire"
)

// FuzzDispatch gives a server messages that no kernel sends. Whatever they
// are, each is answered as the protocol demands or dropped, and the session
// goes on.
func FuzzDispatch(f *testing.F) {
	for op := range wire.Opcode(wire.OpLimit) {
		if l, known := op.Layout(); known {
			f.Add(uint32(op), uint64(1), bytes.Repeat([]byte{1}, int(l.In)), []byte("name\x00other\x00"), uint8(0), false)
			f.Add(uint32(op), uint64(1)<<63, bytes.Repeat([]byte{255}, int(l.In)), []byte("a\x00"), uint8(8), true)
		}
	}
	f.Add(uint32(9999), uint64(0), []byte{}, []byte{}, uint8(255), true)
	kernels := map[bool]*fusetest.Kernel{}
	for _, ring := range []bool{false, true} {
		kernels[ring], _ = session(f, hostileFS{newMemFS()}, fusetest.Options{Ring: ring, MaxPayload: 1 << 16},
			&fuse.MountOptions{Logger: logTo(new(bytes.Buffer))})
	}
	f.Fuzz(func(t *testing.T, op uint32, node uint64, args, payload []byte, ext uint8, ring bool) {
		if len(args) > 128 || len(payload) > 1<<16 {
			return
		}
		if wire.Opcode(op) == wire.OpInit {
			return // TestForeignVersions
		}
		k := kernels[ring]
		k.Call(&fusetest.Request{Op: wire.Opcode(op), Node: node, Args: args, Payload: payload, Ext: int(ext) * 8})
		if faults := k.Faults(); len(faults) > 0 {
			t.Fatal(faults)
		}
		if _, errno := k.Getattr(1); errno != 0 {
			t.Fatalf("the session is over: %v", errno)
		}
	})
}

// hostileFS is a memFS whose answers are as long as they may be.
type hostileFS struct{ *memFS }

func (h hostileFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	for i := in.Offset; out.AddDirEntry(fuse.DirEntry{Name: "name", Off: i}); i++ {
	}
	return fuse.OK
}

func (h hostileFS) Readlink(<-chan struct{}, *fuse.InHeader) ([]byte, fuse.Status) {
	return bytes.Repeat([]byte{'a'}, 4095), fuse.OK
}

func (h hostileFS) ListXAttr(_ <-chan struct{}, _ *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	return uint32(len(dest)), fuse.OK
}

func (h hostileFS) Write(_ <-chan struct{}, _ *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return uint32(len(data)) + 1, fuse.OK
}

// FuzzSession gives Resume states that no server has written.
func FuzzSession(f *testing.F) {
	f.Add([]byte("SLUICEFS\x01\x00\x00\x00\x02\x00\x00\x00{}\x00\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := fuse.Resume(newMemFS(), &fuse.Session{State: b}, nil); err == nil {
			t.Fatalf("resumed %v without a descriptor", s)
		}
	})
}
