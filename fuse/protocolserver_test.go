package fuse_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// request makes the bytes of a request.
func request(op wire.Opcode, unique, node uint64, args []byte) []byte {
	h := wire.InHeader{Length: uint32(wire.InHeaderSize + len(args)), Opcode: op, Unique: unique, NodeID: node}
	return append(wire.AppendInHeader(nil, h), args...)
}

// pieces cuts b into slices of n bytes.
func pieces(b []byte, n int) (out [][]byte) {
	for len(b) > n {
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return append(out, b)
}

// initArgs is fuse_init_in of a recent kernel.
func initArgs() []byte {
	b := binary.NativeEndian.AppendUint32(nil, 7)
	b = binary.NativeEndian.AppendUint32(b, 40)
	b = binary.NativeEndian.AppendUint32(b, 1<<17)
	return append(b, make([]byte, 52)...)
}

func newHandServer(t *testing.T) *fuse.ProtocolServer {
	t.Helper()
	p := fuse.NewProtocolServer(&greeter{fuse.NewDefaultRawFileSystem()}, nil)
	out := make([]byte, 1<<12)
	n, st := p.HandleRequest([][]byte{request(wire.OpInit, 1, 0, initArgs())}, [][]byte{out})
	h, ok := wire.ParseOutHeader(out[:n])
	if !st.Ok() || !ok || h.Error != 0 || h.Unique != 1 || int(h.Length) != n {
		t.Fatalf("INIT: %v, %d bytes, %+v", st, n, h)
	}
	return p
}

// Requests and answers may be cut anywhere.
func TestProtocolServerTakesPieces(t *testing.T) {
	p := newHandServer(t)
	lookup := request(wire.OpLookup, 7, fuse.FUSE_ROOT_ID, []byte("hello\x00"))
	var first []byte
	for _, size := range []int{1, 3, 16, 40, 4096} {
		out := make([]byte, 4096)
		n, st := p.HandleRequest(pieces(lookup, size), pieces(out, size))
		if !st.Ok() {
			t.Fatalf("pieces of %d: %v", size, st)
		}
		if first == nil {
			first = out[:n]
		}
		h, _ := wire.ParseOutHeader(out[:n])
		if h.Error != 0 || h.Unique != 7 || int(h.Length) != n || !bytes.Equal(out[:n], first) {
			t.Errorf("pieces of %d: %+v in %d bytes, another answer than before", size, h, n)
		}
		if node := binary.NativeEndian.Uint64(out[wire.OutHeaderSize:]); node != 2 {
			t.Errorf("pieces of %d: node %d, want 2", size, node)
		}
	}
}

func TestProtocolServerErrors(t *testing.T) {
	p := newHandServer(t)
	out := make([]byte, 4096)
	n, st := p.HandleRequest([][]byte{request(wire.OpLookup, 8, fuse.FUSE_ROOT_ID, []byte("none\x00"))}, [][]byte{out})
	if h, _ := wire.ParseOutHeader(out[:n]); !st.Ok() || n != wire.OutHeaderSize || h.Error != -int32(syscall.ENOENT) {
		t.Errorf("unknown name: %v, %d bytes, %+v, want ENOENT in the answer", st, n, h)
	}
	for _, short := range [][]byte{nil, make([]byte, wire.InHeaderSize-1)} {
		if n, st := p.HandleRequest([][]byte{short}, [][]byte{out}); n != 0 || st != fuse.EINVAL {
			t.Errorf("%d bytes as a request: %d, %v, want EINVAL", len(short), n, st)
		}
	}
	getattr := request(wire.OpGetattr, 9, fuse.FUSE_ROOT_ID, make([]byte, 16))
	for _, room := range []int{0, wire.OutHeaderSize, 60} {
		if n, st := p.HandleRequest([][]byte{getattr}, [][]byte{out[:room]}); n != 0 || st != fuse.Status(syscall.ERANGE) {
			t.Errorf("room for %d bytes: %d, %v, want ERANGE", room, n, st)
		}
	}
	forget := request(wire.OpForget, 10, 2, make([]byte, 8))
	if n, st := p.HandleRequest([][]byte{forget}, nil); n != 0 || !st.Ok() {
		t.Errorf("FORGET: %d, %v, want no answer", n, st)
	}
	if st := p.InodeNotify(2, 0, 0); st.Ok() {
		t.Error("a notification went where there is no way for it")
	}
}

func TestProtocolServerIsConcurrent(t *testing.T) {
	p := newHandServer(t)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			out := make([]byte, 4096)
			for k := range 200 {
				unique := uint64(1000*i + k + 100)
				n, st := p.HandleRequest([][]byte{request(wire.OpGetattr, unique, fuse.FUSE_ROOT_ID, make([]byte, 16))}, [][]byte{out})
				if h, _ := wire.ParseOutHeader(out[:n]); !st.Ok() || h.Unique != unique || h.Error != 0 {
					t.Errorf("request %d: %v, %+v", unique, st, h)
					return
				}
			}
		})
	}
	callers.Wait()
}

func TestAttrOfFileInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	a, owner := fuse.ToAttr(fi), fuse.CurrentOwner()
	if a == nil || a.Size != 5 || a.Mode&0o777 != 0o640 || a.Owner != *owner || !a.ModTime().Equal(fi.ModTime()) {
		t.Errorf("got %+v, want what Stat says: %v", a, fi)
	}
	if st := fuse.ToStatT(fi); st == nil || uint64(st.Ino) != a.Ino {
		t.Errorf("the system's struct: %+v", st)
	}
	if a := fuse.ToAttr(nil); a != nil {
		t.Errorf("of nothing: %+v", a)
	}
}

func TestUtimeToTimespec(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_789)
	if ts := fuse.UtimeToTimespec(&at); int64(ts.Sec) != at.Unix() || int64(ts.Nsec) != int64(at.Nanosecond()) {
		t.Errorf("got %+v, want %v", ts, at)
	}
	if ts := fuse.UtimeToTimespec(nil); ts.Nsec != (1<<30)-2 {
		t.Errorf("no time: got %+v, want UTIME_OMIT", ts)
	}
}
