package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestOpcodeNames(t *testing.T) {
	seen := map[string]Opcode{}
	n := 0
	for o := Opcode(0); o < OpLimit; o++ {
		l, ok := o.Layout()
		if ok != o.Known() {
			t.Errorf("%v: Layout says known=%v, Known says %v", o, ok, o.Known())
		}
		if !ok {
			if l != (Layout{}) {
				t.Errorf("opcode %d has a layout and no name", uint32(o))
			}
			continue
		}
		n++
		name := o.String()
		if other, dup := seen[name]; dup {
			t.Errorf("%d and %d are both called %s", other, o, name)
		}
		seen[name] = o
		if back, ok := ParseOpcode(name); !ok || back != o {
			t.Errorf("ParseOpcode(%q): got %d, %v, want %d", name, back, ok, o)
		}
		if l.Flags&NoReply != 0 && l.Out != 0 {
			t.Errorf("%v: no reply, yet %d bytes of it", o, l.Out)
		}
	}
	if n != 51 {
		t.Errorf("operations: got %d, want 51", n)
	}
	if got := Opcode(7).String(); got != "OPCODE(7)" {
		t.Errorf("unused number: got %s", got)
	}
	if _, ok := ParseOpcode(""); ok {
		t.Error("the empty name is an operation")
	}
	if o, ok := ParseOpcode("CUSE_INIT"); !ok || o != OpCuseInit {
		t.Errorf("CUSE_INIT: got %v, %v", o, ok)
	}
}

// Sizes as the kernel's header defines them, for a spread of operations.
func TestLayoutSizes(t *testing.T) {
	for _, c := range []struct {
		op      Opcode
		in, out int
		request int
	}{
		{OpLookup, 0, 128, 41},
		{OpSetattr, 88, 104, 128},
		{OpRename2, 16, 0, 58},
		{OpCreate, 16, 144, 57},
		{OpStatx, 24, 288, 64},
		{OpSetxattr, 16, 0, 49},
		{OpInit, 64, 64, 48},
		{OpRemovemapping, 4, 0, 44},
		{OpCopyFileRange64, 56, 8, 96},
	} {
		l, _ := c.op.Layout()
		if int(l.In) != c.in || int(l.Out) != c.out || c.op.MinRequest() != c.request {
			t.Errorf("%v: got in %d, out %d, request %d, want %d, %d, %d",
				c.op, l.In, l.Out, c.op.MinRequest(), c.in, c.out, c.request)
		}
	}
	if got := Opcode(19).MinRequest(); got != 0 {
		t.Errorf("unknown operation: got %d, want 0", got)
	}
}

func TestInHeaderLengths(t *testing.T) {
	whole := AppendInHeader(nil, InHeader{Length: 48, Opcode: OpForget, Unique: 2, NodeID: 1, TotalExtlen: 1})
	whole = append(whole, make([]byte, 8)...)
	if _, ok := ParseInHeader(whole); !ok {
		t.Error("a whole request was refused")
	}
	if _, ok := ParseInHeader(whole[:47]); ok {
		t.Error("a cut request was taken")
	}
	tooMuchExt := AppendInHeader(nil, InHeader{Length: 48, TotalExtlen: 2})
	if _, ok := ParseInHeader(append(tooMuchExt, make([]byte, 8)...)); ok {
		t.Error("an extension area longer than the request was taken")
	}
	short := AppendInHeader(nil, InHeader{Length: 39})
	if _, ok := ParseInHeader(short); ok {
		t.Error("a request shorter than its header was taken")
	}
}

func TestOutHeaderExactLength(t *testing.T) {
	b := AppendOutHeader(nil, OutHeader{Length: 16, Error: -2, Unique: 7})
	h, ok := ParseOutHeader(b)
	if !ok || h != (OutHeader{16, -2, 7}) {
		t.Errorf("got %+v, %v", h, ok)
	}
	p := make([]byte, 16)
	PutOutHeader(p, h)
	if !bytes.Equal(p, b) {
		t.Errorf("PutOutHeader wrote %x, AppendOutHeader %x", p, b)
	}
	if _, ok := ParseOutHeader(append(b, 0)); ok {
		t.Error("a reply longer than its header says was taken")
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "..": true, "ä b": true, string(bytes.Repeat([]byte("x"), MaxName)): true,
		"": false, "a/b": false, "a\x00": false, string(bytes.Repeat([]byte("x"), MaxName+1)): false,
	} {
		if got := ValidName([]byte(name)); got != want {
			t.Errorf("ValidName(%.20q): got %v, want %v", name, got, want)
		}
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	request := AppendInHeader(nil, InHeader{Length: 45, Opcode: OpLookup, Unique: 2, NodeID: 1})
	request = append(request, "name\x00"...)
	reply := make([]byte, OutHeaderSize)
	sink := 0
	if n := testing.AllocsPerRun(100, func() {
		h, ok := ParseInHeader(request)
		if !ok {
			sink++
		}
		l, _ := h.Opcode.Layout()
		name, _, _ := CutString(request[InHeaderSize:])
		if !ValidName(name) || l.Names != 1 {
			sink++
		}
		PutOutHeader(reply, OutHeader{Length: OutHeaderSize, Unique: h.Unique})
	}); n != 0 || sink != 0 {
		t.Errorf("allocations: got %v, want 0 (%d wrong)", n, sink)
	}
}

func FuzzParseInHeader(f *testing.F) {
	f.Add(append(AppendInHeader(nil, InHeader{Length: 45, Opcode: OpLookup, Unique: 1 << 63, NodeID: 1}), "name\x00"...))
	f.Add(AppendInHeader(nil, InHeader{Length: 40, TotalExtlen: 65535}))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := ParseInHeader(b)
		if !ok {
			return
		}
		if int(h.Length) > len(b) || int(h.TotalExtlen)*8 > int(h.Length)-InHeaderSize {
			t.Fatalf("accepted %+v in %d bytes", h, len(b))
		}
		if got := AppendInHeader(nil, h); !bytes.Equal(got, b[:InHeaderSize]) {
			t.Fatalf("written again: got %x, want %x", got, b[:InHeaderSize])
		}
	})
}

func FuzzParseBatchForget(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, forgets, ok := ParseBatchForget(b)
		if !ok {
			return
		}
		got := 0
		for range forgets {
			got++
		}
		if got != n || 8+n*ForgetOneSize > len(b) {
			t.Fatalf("count says %d, %d came out of %d bytes", n, got, len(b))
		}
		for range forgets {
			break // leaving early must be possible
		}
	})
}

func FuzzParseExtensions(f *testing.F) {
	f.Add(AppendExtensions(nil, Extensions{
		Security: []SecurityContext{{"security.selinux", []byte("label")}, {"security.x", nil}},
		Groups:   []uint32{4, 24},
	}))
	f.Add([]byte{8, 0, 0, 0, 33, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, ok := ParseExtensions(b)
		if !ok {
			return
		}
		again, ok := ParseExtensions(AppendExtensions(nil, x))
		if !ok || len(again.Security) != len(x.Security) || !reflect.DeepEqual(again.Groups, x.Groups) {
			t.Fatalf("written and read again: got %+v, %v, want %+v", again, ok, x)
		}
		for i, s := range x.Security {
			if again.Security[i].Name != s.Name || !bytes.Equal(again.Security[i].Value, s.Value) {
				t.Fatalf("context %d: got %+v, want %+v", i, again.Security[i], s)
			}
		}
	})
}

func FuzzCutString(f *testing.F) {
	f.Add([]byte("old\x00new\x00"))
	f.Add([]byte("no end"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, ok := CutString(b)
		if ok != (bytes.IndexByte(b, 0) >= 0) {
			t.Fatalf("ok: got %v", ok)
		}
		if ok && !bytes.Equal(append(append(bytes.Clone(s), 0), rest...), b) {
			t.Fatalf("pieces %q, %q are not %q", s, rest, b)
		}
	})
}
