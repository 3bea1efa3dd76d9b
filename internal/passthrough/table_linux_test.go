package passthrough

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
)

// open opens a file system with a table; the test ends here where files cannot
// be found by their handles, as for an ordinary user.
func open(t *testing.T, dir string) *FS {
	t.Helper()
	f, err := New(dir, Options{Table: filepath.Join(t.TempDir(), "nodes")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.OnUnmount)
	return f
}

func lookup(t *testing.T, f *FS, dir uint64, name string) *fuse.EntryOut {
	t.Helper()
	var out fuse.EntryOut
	h := &fuse.InHeader{NodeId: dir}
	if st := f.Lookup(nil, h, name, &out); st != fuse.OK {
		t.Fatalf("look up %s: %v", name, st)
	}
	return &out
}

func read(f *FS, id uint64) (string, fuse.Status) {
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Size: 100}
	r, st := f.Read(nil, in, make([]byte, 100))
	if st != fuse.OK {
		return "", st
	}
	defer r.Done()
	b, st := r.Bytes(nil)
	return string(b), st
}

// A successor that has nothing but the table answers for the nodes of a
// process that is gone, whatever their names are by now.
func TestSuccessor(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b/one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, dir)
	if f.Transferable() != nil {
		if os.Geteuid() == 0 {
			t.Log(f.Transferable())
		}
		if _, err := f.SaveState(); err == nil {
			t.Error("a state was saved that nobody can use")
		}
		return
	}
	a := lookup(t, f, fuse.FUSE_ROOT_ID, "a")
	b := lookup(t, f, a.NodeId, "b")
	one := lookup(t, f, b.NodeId, "one")
	two := lookup(t, f, fuse.FUSE_ROOT_ID, "two")
	if again := lookup(t, f, fuse.FUSE_ROOT_ID, "two"); again.NodeId != two.NodeId {
		t.Errorf("one file, two nodes: %#x and %#x", two.NodeId, again.NodeId)
	}
	state, err := f.SaveState()
	if err != nil {
		t.Fatal(err)
	}
	gone := lookup(t, f, b.NodeId, "one").NodeId
	f.Forget(gone, 1)
	if err := os.Rename(dir+"/a", dir+"/moved"); err != nil {
		t.Fatal(err)
	}

	g := open(t, dir)
	f.HandedOver()
	if err := g.RestoreState(state); err != nil {
		t.Fatal(err)
	}
	if text, st := read(g, one.NodeId); text != "a/b/one" || st != fuse.OK {
		t.Errorf("a file of the predecessor: %q, %v", text, st)
	}
	if again := lookup(t, g, b.NodeId, "one"); again.NodeId != one.NodeId {
		t.Errorf("looked up again: %#x, was %#x", again.NodeId, one.NodeId)
	}
	g.Forget(two.NodeId, 2)
	if _, st := read(g, two.NodeId); st != stale {
		t.Errorf("a file that is forgotten: %v", st)
	}
	if err := os.WriteFile(dir+"/three", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if three := lookup(t, g, fuse.FUSE_ROOT_ID, "three"); three.NodeId == two.NodeId || three.NodeId == one.NodeId {
		t.Error("an id was given twice")
	}
	if err := os.Remove(dir + "/moved/b/one"); err != nil {
		t.Fatal(err)
	}
	var attr fuse.AttrOut
	if st := g.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: one.NodeId}}, &attr); st != fuse.OK && st != stale {
		t.Errorf("a file that was removed: %v", st)
	}
}

// Ids are not given twice, and a node that nobody holds leaves nothing.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	seen := map[uint64]bool{}
	for range 3 * segRecords {
		id := lookup(t, f, fuse.FUSE_ROOT_ID, "f").NodeId
		if seen[id] || id>>47 != 0 {
			t.Fatalf("id %#x", id)
		}
		seen[id] = true
		f.Forget(id, 1)
	}
	if n := len(*f.table.segs.Load()); n != 1 {
		t.Errorf("%d segments for one node", n)
	}
}

func TestTableIsChecked(t *testing.T) {
	dir := t.TempDir()
	root := identity{1, 2, 3}
	name := filepath.Join(dir, "table")
	tab, err := createTable(name, root)
	if err != nil {
		t.Fatal(err)
	}
	r, id, err := tab.alloc()
	if err != nil {
		t.Fatal(err)
	}
	r.id.Store(id)
	if err := tab.close(false); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	ne := binary.NativeEndian
	for _, c := range []struct {
		why    string
		spoil  func(b []byte) []byte
		reason string
	}{
		{"nothing", func(b []byte) []byte { return b }, ""},
		{"magic", func(b []byte) []byte { b[0]++; return b }, "not a table"},
		{"version", func(b []byte) []byte { ne.PutUint32(b[8:], 2); return b }, "version 2"},
		{"root", func(b []byte) []byte { b[20]++; return b }, "checksum"},
		{"empty", func([]byte) []byte { return nil }, "head"},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "size"},
		{"id", func(b []byte) []byte { b[headSize]++; return b }, "has the id"},
		{"handle", func(b []byte) []byte { ne.PutUint32(b[headSize+64:], 57); return b }, "handle of 57"},
	} {
		if err := os.WriteFile(name, c.spoil(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := openTable(name, root)
		if err == nil {
			got.close(false)
		}
		if c.reason == "" && err != nil || c.reason != "" && (err == nil || !strings.Contains(err.Error(), c.reason)) {
			t.Errorf("%s: got %v, want %q", c.why, err, c.reason)
		}
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openTable(name, identity{1, 2, 4}); err == nil {
		t.Error("the table of another directory was taken")
	}
}

func FuzzTable(f *testing.F) {
	root := identity{1, 2, 3}
	f.Add(tableHead(root), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, head, records []byte) {
		name := filepath.Join(t.TempDir(), "t")
		b := append(bytes.Clone(head), records...)
		if pad := len(b) - headSize; pad > 0 {
			b = append(b, make([]byte, (segSize-pad%segSize)%segSize)...)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		tab, err := openTable(name, root)
		if err != nil {
			return
		}
		defer tab.close(false)
		if _, _, err := tab.alloc(); err != nil {
			t.Errorf("a table that was accepted gives no record: %v", err)
		}
	})
}

// A swap that a predecessor has done is not done again.
func TestExchangeOnce(t *testing.T) {
	f := open(t, t.TempDir())
	key := identity{1, 2, 3}
	n := f.table.note(42)
	n.set(42, key)
	if again := f.table.note(42 | resendBit); !again.is(42|resendBit) || again.at.key != key {
		t.Errorf("the note is lost: %+v", again.at)
	}
	if f.table.note(44).is(44) {
		t.Error("a request that has no note has one")
	}
}

func TestIDMapParse(t *testing.T) {
	m, err := ParseIDMap([]string{"0:1000:10", "100:0:5"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[uint32]uint32{1000: 0, 1009: 9, 1010: nobody, 0: 100, 4: 104, 5: nobody} {
		if got := m.shown(host); got != want {
			t.Errorf("shown %d: got %d, want %d", host, got, want)
		}
	}
	if got, ok := m.below(104); got != 4 || !ok {
		t.Errorf("below 104: %d, %v", got, ok)
	}
	if _, ok := m.below(50); ok {
		t.Error("below 50: there is none")
	}
	for _, bad := range [][]string{{"1:2"}, {"a:1:1"}, {"0:0:0"}, {"0:4294967295:2"}, {"0:0:10", "5:100:1"}, {"0:0:10", "50:9:1"}} {
		if _, err := ParseIDMap(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzMapACL(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 2, 0, 7, 0, 1, 0, 0, 0})
	m := IDMap{{Mount: 0, Host: 1000, Count: 1000}}
	f.Fuzz(func(t *testing.T, b []byte) {
		orig := bytes.Clone(b)
		if !mapACL(b, m.below, m.below) {
			return
		}
		up := func(id uint32) (uint32, bool) { return m.shown(id), true }
		if mapACL(b, up, up); !bytes.Equal(b, orig) {
			t.Errorf("there and back: got %v, want %v", b, orig)
		}
	})
}

// Nodes on another file system work, but a successor cannot find them.
func TestHandlesOfAnotherMount(t *testing.T) {
	f := open(t, t.TempDir())
	n := &node{}
	f.mountID = -1
	if err := unix.Mkdirat(f.rootFD, "d", 0o755); err != nil {
		t.Fatal(err)
	}
	out := lookup(t, f, fuse.FUSE_ROOT_ID, "d")
	n = f.node(out.NodeId)
	if n.rec.handle.Size != 0 {
		t.Error("a handle of another mount was kept")
	}
	var attr fuse.AttrOut
	if st := f.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: out.NodeId}}, &attr); st != fuse.OK || attr.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		t.Errorf("attributes: %v, %o", st, attr.Mode)
	}
}
