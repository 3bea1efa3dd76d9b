package fs

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// The defaults keep the tests short; "go test -race -run Races -rounds 500000"
// makes some 30 million requests.
var (
	raceRounds   = flag.Int("rounds", 20000, "rounds of each client of the tests of races")
	memoryInodes = flag.Int("inodes", 100_000, "inodes that the test of their memory looks up")
)

// generator is a directory in which every name exists.
type generator struct {
	Inode
	forgotten func()
}

func (g *generator) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	mode := uint32(syscall.S_IFREG)
	if name[0] == 'd' {
		mode = syscall.S_IFDIR
	}
	return g.NewInode(ctx, &generator{forgotten: g.forgotten}, StableAttr{Mode: mode}), 0
}

func (g *generator) Rename(ctx context.Context, name string, newParent InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return 0
}

func (g *generator) OnForget() {
	if g.forgotten != nil {
		g.forgotten()
	}
}

// kernel plays the kernel to a file system without a mount.
type kernel struct {
	b *rawBridge
}

func newKernel(root InodeEmbedder, opts *Options) kernel {
	return kernel{NewNodeFS(root, opts).(*rawBridge)}
}

func (k kernel) lookup(parent uint64, name string) (uint64, fuse.Status) {
	var out fuse.EntryOut
	st := k.b.Lookup(nil, &fuse.InHeader{NodeId: parent}, name, &out)
	return out.NodeId, st
}

func (k kernel) rename(from uint64, name string, to uint64, newName string) fuse.Status {
	return k.b.Rename(nil, &fuse.RenameIn{InHeader: fuse.InHeader{NodeId: from}, Newdir: to}, name, newName)
}

func (k kernel) getattr(id uint64) fuse.Status {
	return k.b.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: id}}, &fuse.AttrOut{})
}

// TestRacesOfLookupForgetNotifyRename lets many clients do what clients do at
// a time, and counts afterwards: each inode that a client has a reference to
// is known throughout, and none is left at the end.
func TestRacesOfLookupForgetNotifyRename(t *testing.T) {
	root := &generator{}
	k := newKernel(root, &Options{ServerCallbacks: quiet{}})
	rounds := *raceRounds
	if testing.Short() {
		rounds = min(rounds, 3000)
	}
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(client)))
			type ref struct{ dir, file uint64 }
			var held []ref
			drop := func() {
				h := held[0]
				held = held[1:]
				k.b.Forget(h.file, 1)
				k.b.Forget(h.dir, 1)
			}
			for range rounds {
				dname, fname := fmt.Sprint("d", r.IntN(4)), fmt.Sprint("f", r.IntN(4))
				dir, st := k.lookup(1, dname)
				if !st.Ok() {
					t.Errorf("lookup %s: %v", dname, st)
					return
				}
				file, st := k.lookup(dir, fname)
				if !st.Ok() {
					t.Errorf("lookup %s: %v", fname, st)
					return
				}
				held = append(held, ref{dir, file})
				switch r.IntN(4) {
				case 0:
					if d2, st := k.lookup(1, fmt.Sprint("d", r.IntN(4))); st.Ok() {
						k.rename(dir, fname, d2, fmt.Sprint("f", r.IntN(4)))
						k.b.Forget(d2, 1)
					}
				case 1:
					if n := k.b.node(file); n != nil {
						n.NotifyContent(0, 0)
						n.Path(nil)
						n.Forgotten()
					}
				case 2:
					if n := k.b.node(dir); n != nil {
						n.NotifyEntry(fname)
						n.Children()
					}
				}
				for _, id := range []uint64{dir, file} {
					if st := k.getattr(id); !st.Ok() {
						t.Errorf("an inode that is held: %v", st)
						return
					}
				}
				if len(held) > 10 {
					drop()
				}
			}
			for len(held) > 0 {
				drop()
			}
		})
	}
	wg.Wait()
	if n := k.b.nodes.live.Load(); n != 0 {
		t.Errorf("%d node ids are left, want 0", n)
	}
	if n := k.b.ids.count(); n != 1 {
		t.Errorf("%d identities are left, want the root's", n)
	}
	if names := root.Children(); len(names) != 0 {
		t.Errorf("the root has %d children left", len(names))
	}
}

// quiet takes notifications.
type quiet struct{}

func (quiet) DeleteNotify(uint64, uint64, string) fuse.Status { return fuse.OK }
func (quiet) EntryNotify(uint64, string) fuse.Status          { return fuse.OK }
func (quiet) InodeNotify(uint64, int64, int64) fuse.Status    { return fuse.OK }
func (quiet) InodeRetrieveCache(uint64, int64, []byte) (int, fuse.Status) {
	return 0, fuse.OK
}
func (quiet) InodeNotifyStoreCache(uint64, int64, []byte) fuse.Status { return fuse.OK }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryOfInodes measures what an inode costs beyond the type that it is
// embedded in, and that it is given back.
func TestMemoryOfInodes(t *testing.T) {
	const files = 1000
	dirs := *memoryInodes / files
	if raceEnabled {
		dirs = max(1, dirs/10)
	}
	k := newKernel(&generator{}, nil)
	before := heap()
	for round := range 3 {
		memoryRound(t, k, dirs, files, before)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	runtime.KeepAlive(k)
}

// memoryRound looks up files in dirs and forgets them all.
func memoryRound(t *testing.T, k kernel, dirs, files int, before uint64) {
	ids := make([]uint64, 0, dirs*(files+1))
	used := heap() - before
	for d := range dirs {
		dir, _ := k.lookup(1, fmt.Sprint("d", d))
		ids = append(ids, dir)
		for f := range files {
			id, _ := k.lookup(dir, fmt.Sprintf("file%07d", f))
			ids = append(ids, id)
		}
	}
	const own = 8 // generator.forgotten
	each := float64(heap()-before-used)/float64(len(ids)) - own
	t.Logf("%.0f bytes for an inode and its name", each)
	if each > 300 {
		t.Errorf("an inode takes %.0f bytes, want at most 300", each)
	}
	for _, id := range ids {
		k.b.Forget(id, 1)
	}
	ids = nil
	if n := k.b.nodes.live.Load(); n != 0 {
		t.Errorf("%d node ids are left", n)
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d bytes are in use after all was forgotten, %d before", after, before)
	}
}

func TestForgetOutOfStep(t *testing.T) {
	forgotten := 0
	k := newKernel(&generator{forgotten: func() { forgotten++ }}, nil)
	id, _ := k.lookup(1, "f")
	k.b.Forget(id, 1<<60) // more than there are
	k.b.Forget(id, 1)     // nobody any more
	k.b.Forget(12345, 1)
	k.b.Forget(1, 1) // the root stays
	if forgotten != 1 {
		t.Errorf("OnForget ran %d times, want 1", forgotten)
	}
	if st := k.getattr(id); st != estale {
		t.Errorf("a forgotten id: got %v, want ESTALE", st)
	}
	if st := k.getattr(1); !st.Ok() {
		t.Errorf("the root: %v", st)
	}
	for _, name := range []string{"", "a/b", "a\x00b"} {
		if _, st := k.lookup(1, name); st != fuse.EINVAL {
			t.Errorf("lookup of %q: got %v, want EINVAL", name, st)
		}
	}
}

func TestHandlesOutOfStep(t *testing.T) {
	root := &Inode{}
	k := newKernel(root, &Options{OnAdd: func(ctx context.Context) {
		for _, name := range []string{"a", "b"} {
			root.AddChild(name, root.NewPersistentInode(ctx, &opened{}, StableAttr{}), false)
		}
	}})
	a, _ := k.lookup(1, "a")
	b, _ := k.lookup(1, "b")
	var out fuse.OpenOut
	if st := k.b.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: a}}, &out); !st.Ok() {
		t.Fatal(st)
	}
	read := func(node, fh uint64) fuse.Status {
		_, st := k.b.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node}, Fh: fh}, make([]byte, 10))
		return st
	}
	if st := read(a, out.Fh); !st.Ok() {
		t.Errorf("read: %v", st)
	}
	if st := read(b, out.Fh); st != fuse.EBADF {
		t.Errorf("a handle of another node: got %v, want EBADF", st)
	}
	if st := read(a, out.Fh+1); st != fuse.EBADF {
		t.Errorf("a handle that was never opened: got %v, want EBADF", st)
	}
	for range 2 {
		k.b.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: a}, Fh: out.Fh})
	}
	if st := read(a, out.Fh); st != fuse.EBADF {
		t.Errorf("a released handle: got %v, want EBADF", st)
	}
	if n := k.b.files.live.Load(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}

// opened is a file with a handle.
type opened struct{ Inode }

func (o *opened) Open(ctx context.Context, flags uint32) (FileHandle, uint32, syscall.Errno) {
	return o, 0, 0
}

func (o *opened) Read(ctx context.Context, f FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(nil), 0
}

func TestTreeOperations(t *testing.T) {
	root := &Inode{}
	ctx := context.Background()
	newKernel(root, nil)
	dir := func() *Inode {
		return root.NewPersistentInode(ctx, &Inode{}, StableAttr{Mode: syscall.S_IFDIR})
	}
	file := func() *Inode { return root.NewPersistentInode(ctx, &MemRegularFile{}, StableAttr{}) }
	a, b, f, g := dir(), dir(), file(), file()
	root.AddChild("a", a, false)
	root.AddChild("b", b, false)
	a.AddChild("f", f, false)
	if a.AddChild("f", g, false) {
		t.Error("AddChild replaced a child without overwrite")
	}
	if got := f.Path(nil); got != "a/f" {
		t.Errorf("path: got %q, want a/f", got)
	}
	if b.AddChild("g", g, false); !a.MvChild("f", b, "f2", false) || a.GetChild("f") != nil || b.GetChild("f2") != f {
		t.Error("MvChild did not move")
	}
	if b.MvChild("f2", b, "g", false) {
		t.Error("MvChild replaced without overwrite")
	}
	b.ExchangeChild("f2", b, "g")
	if b.GetChild("f2") != g || b.GetChild("g") != f {
		t.Error("ExchangeChild did not exchange")
	}
	if got := f.Path(root); got != "b/g" {
		t.Errorf("path after the exchange: got %q, want b/g", got)
	}
	root.AddChild("hard", f, false)
	b.RmChild("g")
	if name, p := f.Parent(); name != "hard" || p != root {
		t.Errorf("the other name: got %q", name)
	}
	if ok, _ := b.RmChild("f2", "none"); ok || b.GetChild("f2") == nil {
		t.Error("RmChild of several names removed some")
	}
	a.AddChild("dir", b, false) // a directory has one name
	if root.GetChild("b") != nil || b.Path(root) != "a/dir" {
		t.Errorf("a directory with two names: %v, path %q", root.Children(), b.Path(root))
	}
	root.RmAllChildren()
	if len(root.Children()) != 0 || !f.Forgotten() || !b.Forgotten() {
		t.Errorf("after RmAllChildren: %v", root.Children())
	}
}

// BenchmarkLookup looks up known names in directories of their own: what one
// costs must not grow with the number of goroutines. Processor time shows
// that also where the processors have other work; waiting for a lock is part
// of it, as is a cache line that goes to and fro.
func BenchmarkLookup(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("sharedDirectory=%v", shared), func(b *testing.B) {
			k := newKernel(&Inode{}, nil)
			ctx := context.Background()
			var mu sync.Mutex
			next := 0
			b.ReportAllocs()
			begin := processorTime()
			defer func() { b.ReportMetric(float64(processorTime()-begin)/float64(b.N), "cpu-ns/op") }()
			b.RunParallel(func(pb *testing.PB) {
				mu.Lock()
				if shared {
					next = 0
				}
				name := fmt.Sprint("d", next)
				next++
				if k.b.root.GetChild(name) == nil {
					d := k.b.root.NewPersistentInode(ctx, &Inode{}, StableAttr{Mode: syscall.S_IFDIR})
					d.AddChild("f", d.NewPersistentInode(ctx, &MemRegularFile{}, StableAttr{}), true)
					k.b.root.AddChild(name, d, true)
				}
				mu.Unlock()
				dir, _ := k.lookup(1, name)
				header := &fuse.InHeader{NodeId: dir}
				var out fuse.EntryOut
				for pb.Next() {
					k.b.Lookup(nil, header, "f", &out)
				}
			})
		})
	}
}

// processorTime is what this process has had of it.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
