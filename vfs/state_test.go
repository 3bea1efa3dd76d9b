package vfs

import (
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// A union in another process means the same by the same node ids.
func TestStateKeepsIDs(t *testing.T) {
	first := New(nil)
	mustAttach(t, first, "/gone", newLeaf("gone"))
	look(t, first, "/gone/name")
	wide := newLeaf("wide")
	wide.wide = 1 << 60
	mustAttach(t, first, "/a/wide", wide)
	mustAttach(t, first, "/a/b/plain", newLeaf("plain"))
	if _, err := first.Detach(t.Context(), "/gone", Lazy); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/a", "/a/b", "/a/wide", "/a/wide/name", "/a/b/plain", "/a/b/plain/sub/deep"}
	ids := map[string]fuse.EntryOut{}
	for _, p := range paths {
		e, st := look(t, first, p)
		if st != fuse.OK {
			t.Fatal(p, st)
		}
		ids[p] = e
	}
	state, err := first.SaveState()
	if err != nil {
		t.Fatal(err)
	}

	second := New(nil)
	wide2 := newLeaf("wide")
	wide2.wide = 1 << 60
	mustAttach(t, second, "/a/b/plain", newLeaf("plain")) // in another order
	mustAttach(t, second, "/a/wide", wide2)
	if err := second.RestoreState(state); err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		e, st := look(t, second, p)
		if st != fuse.OK || e.NodeId != ids[p].NodeId || e.Generation != ids[p].Generation || e.Ino != ids[p].Ino {
			t.Errorf("%s: got node %x generation %x, %v, want %x, %x", p, e.NodeId, e.Generation, st, ids[p].NodeId, ids[p].Generation)
		}
	}
	for p, want := range map[string]string{"/a/wide/name": "wide", "/a/b/plain/sub/deep": "plain"} {
		if got, st := read(second, ids[p].NodeId); got != want || st != fuse.OK {
			t.Errorf("%s by its old id: got %q, %v", p, got, st)
		}
	}
	// The slot of what was detached, and still known, stays taken.
	for range 10 {
		m := mustAttach(t, second, "/new", newLeaf("new"))
		if m.slot == 1 {
			t.Fatal("a slot that the kernel knows was given away")
		}
		if _, err := second.Detach(t.Context(), "/new", Strict); err != nil {
			t.Fatal(err)
		}
	}
}

// What was detached lazily goes on in a successor, and ends with its last use.
func TestStateKeepsWhatIsLeft(t *testing.T) {
	first := New(nil)
	mustAttach(t, first, "/stays", newLeaf("stays"))
	left := mustAttach(t, first, "/left", newLeaf("left"))
	e, _ := look(t, first, "/left/name")
	top, _ := look(t, first, "/left")
	kept, _ := look(t, first, "/stays")
	if _, err := first.Detach(t.Context(), "/left", Lazy); err != nil {
		t.Fatal(err)
	}
	_, nodes := left.InUse()
	refs := map[uint64]uint64{e.NodeId: 1, top.NodeId: uint64(nodes - 1), kept.NodeId: 1}
	state, err := first.SaveState()
	if err != nil {
		t.Fatal(err)
	}

	second := New(nil)
	stays := mustAttach(t, second, "/stays", newLeaf("stays"))
	m := second.Leave(left.Slot(), "/left", newLeaf("left"))
	if err := second.RestoreState(state); err != nil {
		t.Fatal(err)
	}
	second.Exact()
	if got, st := read(second, e.NodeId); got != "left" || st != fuse.OK {
		t.Errorf("read of what was detached: %q, %v", got, st)
	}
	if _, st := look(t, second, "/left"); st != fuse.ENOENT {
		t.Errorf("what was detached has its name again: %v", st)
	}
	if _, nodes := stays.InUse(); nodes != 1 {
		t.Errorf("references to what is attached: got %d, want 1", nodes)
	}
	for id, n := range refs {
		second.Forget(id, n)
	}
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		open, nodes := m.InUse()
		t.Errorf("what was detached does not end: %d open, %d nodes", open, nodes)
	}
	second.OnUnmount()
	first.OnUnmount()
}

func TestStateRefused(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/a", newLeaf("a"))
	state, err := u.SaveState()
	if err != nil {
		t.Fatal(err)
	}
	for name, attach := range map[string][]string{"nothing attached": nil, "too much attached": {"/a", "/b"}} {
		v := New(nil)
		for _, p := range attach {
			mustAttach(t, v, p, newLeaf("x"))
		}
		if err := v.RestoreState(state); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := New(nil).RestoreState([]byte("{")); err == nil {
		t.Error("garbage was accepted")
	}
}

func FuzzRestoreState(f *testing.F) {
	u := New(nil)
	if _, err := u.Attach("/a", newLeaf("a")); err != nil {
		f.Fatal(err)
	}
	state, err := u.SaveState()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	f.Add([]byte(`{"mounts":[{"path":"/a","slot":65535}],"handles":[{"fh":1,"slot":99999}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		u := New(nil)
		if _, err := u.Attach("/a", newLeaf("a")); err != nil {
			t.Fatal(err)
		}
		if u.RestoreState(b) == nil {
			look(t, u, "/a/name")
		}
	})
}
