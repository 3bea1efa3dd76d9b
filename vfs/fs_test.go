package vfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// look walks a path by Lookup, as the kernel would, and returns the node.
func look(t *testing.T, u *FS, path string) (fuse.EntryOut, fuse.Status) {
	t.Helper()
	var out fuse.EntryOut
	node := uint64(fuse.FUSE_ROOT_ID)
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		h := fuse.InHeader{NodeId: node, Opcode: uint32(wire.OpLookup)}
		out = fuse.EntryOut{}
		if st := u.Lookup(nil, &h, name, &out); st != fuse.OK {
			return out, st
		}
		if h.NodeId != node {
			t.Fatalf("the request's node id was not restored: %x, want %x", h.NodeId, node)
		}
		node = out.NodeId
	}
	return out, fuse.OK
}

func mustAttach(t *testing.T, u *FS, path string, fs fuse.RawFileSystem) *Mount {
	t.Helper()
	m, err := u.Attach(path, fs)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(u *FS, node uint64) (string, fuse.Status) {
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node, Opcode: uint32(wire.OpRead)}, Size: 100}
	res, st := u.Read(nil, &in, make([]byte, 100))
	if st != fuse.OK {
		return "", st
	}
	b, st := res.Bytes(nil)
	res.Done()
	return string(b), st
}

func TestAttachPaths(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/a/b", newLeaf("x"))
	for _, c := range []struct {
		path string
		want error
	}{
		{"/a/b", ErrAttached},
		{"/a/b/", ErrAttached},
		{"a", ErrPath},
		{"", ErrPath},
		{"/a//b", ErrPath},
		{"/a/../b", ErrPath},
		{"/a/\x00", ErrPath},
		{"/" + strings.Repeat("x", 256), ErrPath},
		{"/a", nil},
		{"/a/b/c", nil},
		{"/", nil},
		{"/", ErrAttached},
	} {
		_, err := u.Attach(c.path, newLeaf("y"))
		if !errors.Is(err, c.want) {
			t.Errorf("attach at %.10q: got %v, want %v", c.path, err, c.want)
		}
	}
	if _, err := u.Detach(t.Context(), "/none", Lazy); !errors.Is(err, ErrNotAttached) {
		t.Errorf("detach where nothing is: got %v", err)
	}
	if _, _, err := u.Replace(t.Context(), "/none", newLeaf("z"), Lazy); !errors.Is(err, ErrNotAttached) {
		t.Errorf("replace where nothing is: got %v", err)
	}
	if m := u.At("/a/b"); m == nil || m.Path() != "/a/b" {
		t.Errorf("at /a/b: got %v", m)
	}
}

func TestIntermediateDirectories(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/a/b/c", newLeaf("1"))
	mustAttach(t, u, "/a/d", newLeaf("2"))
	if e, st := look(t, u, "/a/b/c/sub/deep"); st != fuse.OK || e.Size != 1 {
		t.Fatalf("deep: %v, %+v", st, e)
	}
	if _, err := u.Detach(t.Context(), "/a/b/c", Lazy); err != nil {
		t.Fatal(err)
	}
	if _, st := look(t, u, "/a/b"); st != fuse.ENOENT {
		t.Errorf("the directory that led to what is gone: got %v, want ENOENT", st)
	}
	if _, st := look(t, u, "/a/d/name"); st != fuse.OK {
		t.Errorf("the neighbour: got %v", st)
	}
	if _, err := u.Detach(t.Context(), "/a/d", Lazy); err != nil {
		t.Fatal(err)
	}
	if _, st := look(t, u, "/a"); st != fuse.ENOENT {
		t.Errorf("/a: got %v, want ENOENT", st)
	}
	if len(u.dirs) != 1 {
		t.Errorf("directories left: %d, want the root only", len(u.dirs))
	}
}

func TestLookupCountsReachTheFileSystem(t *testing.T) {
	u := New(nil)
	l := newLeaf("x")
	m := mustAttach(t, u, "/m", l)
	var nodes []uint64
	for _, p := range []string{"/m", "/m/name", "/m/sub/deep"} {
		e, st := look(t, u, p)
		if st != fuse.OK {
			t.Fatal(p, st)
		}
		nodes = append(nodes, e.NodeId)
	}
	// /m three times on the way, name, sub, deep.
	if _, refs := m.InUse(); refs != 6 || l.refs.Load() != 3 {
		t.Errorf("references: got %d of the union, %d of the file system, want 6 and 3", refs, l.refs.Load())
	}
	u.Forget(nodes[0], 3)
	u.Forget(nodes[1], 1)
	u.Forget(nodes[2], 1)
	if _, refs := m.InUse(); refs != 1 {
		t.Errorf("references after forgetting all but sub: got %d, want 1", refs)
	}
}

func TestNodeIDsDiffer(t *testing.T) {
	u := New(nil)
	ids, inos := map[uint64]string{}, map[uint64]string{}
	for i := range 20 {
		l := newLeaf("x")
		if i%2 == 1 {
			l.wide = 0xfedc_ba98_7654_3000 // more than 48 bits
		}
		path := fmt.Sprintf("/%d", i)
		mustAttach(t, u, path, l)
		for _, p := range []string{"", "/name", "/sub", "/sub/deep"} {
			e, st := look(t, u, path+p)
			if st != fuse.OK {
				t.Fatal(path+p, st)
			}
			if other, dup := ids[e.NodeId]; dup {
				t.Errorf("%s and %s both have node id %x", other, path+p, e.NodeId)
			}
			if other, dup := inos[e.Ino]; dup {
				t.Errorf("%s and %s both have inode number %x", other, path+p, e.Ino)
			}
			ids[e.NodeId], inos[e.Ino] = path+p, path+p
		}
		e, _ := look(t, u, path+"/sub/deep")
		if got, st := read(u, e.NodeId); got != "x" || st != fuse.OK {
			t.Errorf("%s: read %q, %v", path, got, st)
		}
	}
	// A number is forgotten with the last reference.
	m := u.At("/1")
	e, _ := look(t, u, "/1/name")
	u.Forget(e.NodeId, 2)
	if n := len(m.ids.to); n != 2 {
		t.Errorf("numbered ids: got %d, want 2", n)
	}
	if _, st := read(u, e.NodeId); st != estale {
		t.Errorf("a forgotten node: got %v, want ESTALE", st)
	}
}

// A slot is taken again only when the kernel holds nothing of it, over any
// number of cycles.
func TestSlotsAreNotReused(t *testing.T) {
	u := New(nil)
	held := mustAttach(t, u, "/held", newLeaf("held"))
	e, st := look(t, u, "/held/name")
	if st != fuse.OK {
		t.Fatal(st)
	}
	if _, err := u.Detach(t.Context(), "/held", Lazy); err != nil {
		t.Fatal(err)
	}
	cycles := maxSlots + 100
	if testing.Short() {
		cycles = 1000
	}
	for i := range cycles {
		l := newLeaf("x")
		m, err := u.Attach("/x", l)
		if err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
		if m.slot == held.slot {
			t.Fatalf("cycle %d took a slot that the kernel still knows", i)
		}
		if _, err := u.Detach(t.Context(), "/x", Strict); err != nil {
			t.Fatal(err)
		}
	}
	if got, st := read(u, e.NodeId); got != "held" || st != fuse.OK {
		t.Errorf("what was held reads %q, %v", got, st)
	}
	u.Forget(e.NodeId, 1)
	m, _, _ := u.resolve(held.Node(1))
	if m != nil {
		u.Forget(held.Node(1), 1)
	}
	<-held.Done()
}

func TestDetachStrict(t *testing.T) {
	u := New(nil)
	l := newLeaf("x")
	l.gate = make(chan struct{})
	m := mustAttach(t, u, "/m", l)
	e, _ := look(t, u, "/m/name")
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, st := read(u, e.NodeId); got != "x" || st != fuse.OK {
			t.Errorf("the read under way: %q, %v", got, st)
		}
	})
	for m.active.Load() == 0 {
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.Detach(gone, "/m", Strict); !errors.Is(err, context.Canceled) {
		t.Errorf("detach while a read is under way: got %v", err)
	}
	if l.ended.Load() != 0 {
		t.Error("the file system ended under a running read")
	}
	if _, st := read(u, e.NodeId); st != estale {
		t.Errorf("a read that comes after: got %v, want ESTALE", st)
	}
	close(l.gate)
	wg.Wait()
	<-m.Done()
	if l.ended.Load() != 1 {
		t.Errorf("ends: got %d, want 1", l.ended.Load())
	}
	u.Forget(e.NodeId, 1)
	u.Forget(m.Node(1), 1)
	for u.slot(m.slot) != nil { // freed by a goroutine
	}
}

func TestCrossing(t *testing.T) {
	u := New(nil)
	l := newLeaf("x")
	mustAttach(t, u, "/a", l)
	mustAttach(t, u, "/b", newLeaf("y"))
	mustAttach(t, u, "/a/kid", newLeaf("z"))
	a, _ := look(t, u, "/a")
	b, _ := look(t, u, "/b")
	sub, _ := look(t, u, "/a/sub")
	rename := func(from, to uint64, name string) fuse.Status {
		return u.Rename(nil, &fuse.RenameIn{InHeader: fuse.InHeader{NodeId: from}, Newdir: to}, name, "new")
	}
	if st := rename(a.NodeId, b.NodeId, "name"); st != fuse.EXDEV {
		t.Errorf("rename across: got %v", st)
	}
	if st := rename(fuse.FUSE_ROOT_ID, fuse.FUSE_ROOT_ID, "a"); st != fuse.EBUSY {
		t.Errorf("rename of what is attached: got %v", st)
	}
	if st := rename(a.NodeId, a.NodeId, "kid"); st != fuse.EBUSY {
		t.Errorf("rename of what is attached inside another: got %v", st)
	}
	if st := u.Rmdir(nil, &fuse.InHeader{NodeId: a.NodeId}, "kid"); st != fuse.EBUSY {
		t.Errorf("rmdir of what is attached: got %v", st)
	}
	if st := u.Link(nil, &fuse.LinkIn{InHeader: fuse.InHeader{NodeId: b.NodeId}, Oldnodeid: sub.NodeId}, "l", new(fuse.EntryOut)); st != fuse.EXDEV {
		t.Errorf("link across: got %v", st)
	}
	if _, st := u.CopyFileRange(nil, &fuse.CopyFileRangeIn{InHeader: fuse.InHeader{NodeId: b.NodeId}, NodeIdOut: sub.NodeId}); st != fuse.EXDEV {
		t.Errorf("copy across: got %v", st)
	}
	if st := rename(a.NodeId, sub.NodeId, "name"); st != fuse.OK {
		t.Errorf("rename inside: got %v", st)
	}
	if len(l.renamed) != 2 || l.renamed[0] != 1 || l.renamed[1] != 3 {
		t.Errorf("the file system saw nodes %v, want its own 1 and 3", l.renamed)
	}
	if st := u.Mkdir(nil, &fuse.MkdirIn{InHeader: fuse.InHeader{NodeId: 1}}, "new", new(fuse.EntryOut)); st != fuse.EROFS {
		t.Errorf("mkdir in the union's own directory: got %v", st)
	}
}

// ENOSYS of one file system must not reach the kernel.
func TestENOSYSStaysInside(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/m", newLeaf("abc"))
	e, _ := look(t, u, "/m/name")
	h := fuse.InHeader{NodeId: e.NodeId}
	for name, st := range map[string]fuse.Status{
		"flush":     u.Flush(nil, &fuse.FlushIn{InHeader: h}),
		"fsync":     u.Fsync(nil, &fuse.FsyncIn{InHeader: h}),
		"access":    u.Access(nil, &fuse.AccessIn{InHeader: h}),
		"fallocate": u.Fallocate(nil, &fuse.FallocateIn{InHeader: h}),
		"setxattr":  u.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, "user.a", nil),
		"tmpfile":   u.Tmpfile(nil, &fuse.CreateIn{InHeader: h}, new(fuse.CreateOut)),
		"create":    u.Create(nil, &fuse.CreateIn{InHeader: h}, "n", new(fuse.CreateOut)),
		"ioctl":     u.Ioctl(nil, &fuse.IoctlIn{InHeader: h}, nil, new(fuse.IoctlOut), nil),
	} {
		if st == fuse.ENOSYS {
			t.Errorf("%s answers ENOSYS", name)
		}
	}
	var sx fuse.StatxOut
	if st := u.Statx(nil, &fuse.StatxIn{InHeader: h}, &sx); st != fuse.OK || sx.Size != 3 || sx.Ino != e.Ino {
		t.Errorf("statx by getattr: %v, size %d, ino %x, want %x", st, sx.Size, sx.Ino, e.Ino)
	}
	var lo fuse.LseekOut
	if st := u.Lseek(nil, &fuse.LseekIn{InHeader: h, Offset: 1, Whence: 4}, &lo); st != fuse.OK || lo.Offset != 3 {
		t.Errorf("hole by size: %v, %d", st, lo.Offset)
	}
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/m", newLeaf("x"))
	m, _ := look(t, u, "/m")
	e, _ := look(t, u, "/m/name")
	var out fuse.EntryOut
	var attr fuse.AttrOut
	lookup := fuse.InHeader{NodeId: m.NodeId, Opcode: uint32(wire.OpLookup)}
	getattr := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.NodeId, Opcode: uint32(wire.OpGetattr)}}
	open := fuse.OpenIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}
	var opened fuse.OpenOut
	release := fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}
	bad := 0
	if n := testing.AllocsPerRun(200, func() {
		if u.Lookup(nil, &lookup, "name", &out) != fuse.OK || u.GetAttr(nil, &getattr, &attr) != fuse.OK ||
			u.Open(nil, &open, &opened) != fuse.OK {
			bad++
		}
		u.Release(nil, &release)
		u.Forget(out.NodeId, 1)
	}); n != 0 || bad != 0 {
		t.Errorf("allocations: got %v, want 0 (%d failed)", n, bad)
	}
}

func TestConcurrentAttachAndUse(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/m", newLeaf("0"))
	stop := make(chan struct{})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h := fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}
				var root, file fuse.EntryOut
				if st := u.Lookup(nil, &h, "m", &root); st != fuse.OK {
					t.Errorf("look up what is always there: %v", st)
					return
				}
				h.NodeId = root.NodeId
				if st := u.Lookup(nil, &h, "name", &file); st == fuse.OK {
					if _, st := read(u, file.NodeId); st != fuse.OK && st != estale {
						t.Errorf("read: %v", st)
					}
					u.Forget(file.NodeId, 1)
				} else if st != estale {
					t.Errorf("look up inside: %v", st)
				}
				u.Forget(root.NodeId, 1)
			}
		})
	}
	var old []*Mount
	for i := range 300 {
		_, m, err := u.Replace(t.Context(), "/m", newLeaf(fmt.Sprint(i)), How(i%2 == 0))
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, m)
	}
	close(stop)
	users.Wait()
	for _, m := range old {
		<-m.Done()
		if l := m.fs.(*leafFS); l.ended.Load() != 1 {
			t.Errorf("ends: got %d, want 1", l.ended.Load())
		}
	}
	u.OnUnmount()
	if m := u.Mounts(); len(m) > 1 {
		t.Errorf("%d mounts are left, want 1", len(m))
	}
}

// What the union adds to an operation.
func BenchmarkGetAttr(b *testing.B) {
	u := New(nil)
	l := newLeaf("x")
	m, err := u.Attach("/m", l)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fs   fuse.RawFileSystem
		node uint64
	}{{"alone", l, 1}, {"union", u, m.Node(1)}} {
		b.Run(c.name, func(b *testing.B) {
			in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: c.node, Opcode: uint32(wire.OpGetattr)}}
			var out fuse.AttrOut
			b.ReportAllocs()
			for b.Loop() {
				if st := c.fs.GetAttr(nil, &in, &out); st != fuse.OK {
					b.Fatal(st)
				}
			}
		})
	}
}
