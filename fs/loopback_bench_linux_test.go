package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/fuse"
)

// loopbackOps are requests to a loopback without a kernel in front of it, and
// how many allocations each may cost.
func loopbackOps(t testing.TB) map[string]struct {
	allocs float64
	do     func()
} {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, "d", fmt.Sprintf("file%04d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := NewLoopbackRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(root, nil)
	t.Cleanup(k.b.OnUnmount)
	must := func(st fuse.Status) {
		if !st.Ok() {
			t.Fatal(st)
		}
	}
	f, st := k.lookup(1, "f")
	must(st)
	d, st := k.lookup(1, "d")
	must(st)
	header := func(id uint64) fuse.InHeader { return fuse.InHeader{NodeId: id} }
	rootHeader := header(1)
	getattr := &fuse.GetAttrIn{InHeader: header(f)}
	open := &fuse.OpenIn{InHeader: header(f)}
	opendir := &fuse.OpenIn{InHeader: header(d)}
	create := &fuse.CreateIn{InHeader: header(1), Flags: uint32(os.O_RDWR), Mode: 0o644}
	var entry fuse.EntryOut
	var attr fuse.AttrOut
	var openOut fuse.OpenOut
	var createOut fuse.CreateOut
	release := &fuse.ReleaseIn{}
	reading := &fuse.ReadIn{InHeader: header(f)}
	var readFile fuse.OpenOut
	must(k.b.Open(nil, open, &readFile))
	reading.Fh = readFile.Fh
	t.Cleanup(func() {
		k.b.Release(nil, &fuse.ReleaseIn{InHeader: header(f), Fh: readFile.Fh})
	})
	buf := make([]byte, 4096)
	list := make([]byte, 64<<10)
	type op = struct {
		allocs float64
		do     func()
	}
	return map[string]op{
		"lookup": {0, func() {
			entry = fuse.EntryOut{}
			must(k.b.Lookup(nil, &rootHeader, "f", &entry))
		}},
		"getattr": {0, func() {
			attr = fuse.AttrOut{}
			must(k.b.GetAttr(nil, getattr, &attr))
		}},
		"read": {0, func() {
			r, st := k.b.Read(nil, reading, buf)
			must(st)
			r.Done()
		}},
		"open and release": {0, func() {
			openOut = fuse.OpenOut{}
			must(k.b.Open(nil, open, &openOut))
			release.InHeader, release.Fh = header(f), openOut.Fh
			k.b.Release(nil, release)
		}},
		"create, release, unlink, forget": {1, func() {
			createOut = fuse.CreateOut{}
			must(k.b.Create(nil, create, "new", &createOut))
			release.InHeader, release.Fh = header(createOut.NodeId), createOut.Fh
			k.b.Release(nil, release)
			must(k.b.Unlink(nil, &rootHeader, "new"))
			k.b.Forget(createOut.NodeId, 1)
		}},
		"list 1000 with attributes": {10, func() {
			openOut = fuse.OpenOut{}
			must(k.b.OpenDir(nil, opendir, &openOut))
			in := &fuse.ReadIn{InHeader: header(d), Fh: openOut.Fh}
			for {
				l := fuse.NewDirEntryList(list, in.Offset)
				must(k.b.ReadDirPlus(nil, in, l))
				if len(l.Bytes()) == 0 {
					break
				}
				in.Offset = l.Offset
			}
			k.b.ReleaseDir(&fuse.ReleaseIn{InHeader: header(d), Fh: openOut.Fh})
		}},
	}
}

func TestLoopbackAllocations(t *testing.T) {
	for name, op := range loopbackOps(t) {
		if got := testing.AllocsPerRun(100, op.do); got > op.allocs && !raceEnabled {
			t.Errorf("%s: %.0f allocations, want at most %.0f", name, got, op.allocs)
		} else {
			t.Logf("%s: %.0f allocations", name, got)
		}
	}
}

func BenchmarkLoopback(b *testing.B) {
	for name, op := range loopbackOps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				op.do()
			}
		})
	}
}
