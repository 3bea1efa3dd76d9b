package imagefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image"
)

func lookup(t *testing.T, f *FS, parent uint64, name string) (out fuse.EntryOut) {
	t.Helper()
	if st := f.Lookup(nil, &fuse.InHeader{NodeId: parent}, name, &out); st != fuse.OK {
		t.Fatalf("lookup %s: %v", name, st)
	}
	return out
}

func read(f *FS, id, off uint64, n int) (string, fuse.Status) {
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: off, Size: uint32(n)}
	r, st := f.Read(nil, in, make([]byte, n))
	if st != fuse.OK {
		return "", st
	}
	defer r.Done()
	b, st := r.Bytes(nil)
	return string(b), st
}

func TestNodeIDsAreOneToOne(t *testing.T) {
	for _, root := range []uint64{0, 1, 2, 36} {
		n := nodes{root}
		seen := map[uint64]uint64{}
		for _, nid := range []uint64{0, 1, 2, 3, 36, 1<<63 - 1} {
			id, err := n.id(nid)
			if err != nil {
				t.Fatal(err)
			}
			if other, dup := seen[id]; dup || id == 0 {
				t.Errorf("root %d: %d and %d have id %d", root, nid, other, id)
			}
			seen[id] = nid
			if back := n.nid(id); back != nid {
				t.Errorf("root %d: %d -> %d -> %d", root, nid, id, back)
			}
		}
		if id, _ := n.id(root); id != 1 {
			t.Errorf("root %d has id %d", root, id)
		}
		if _, err := n.id(1 << 63); err == nil {
			t.Error("number 2^63 was accepted")
		}
	}
}

func TestLookupAndAttributesForEver(t *testing.T) {
	tree, r := fake()
	f := New(tree, r, Options{})
	out := lookup(t, f, 1, "big")
	if out.NodeId != 40 || out.Ino != 40 || out.Mode != image.TypeRegular|0o755 || out.Mtimensec != 5 || out.Owner != (fuse.Owner{Uid: 10, Gid: 20}) {
		t.Errorf("got %+v", out)
	}
	if out.EntryValid < 1e9 || out.AttrValid < 1e9 {
		t.Errorf("valid for %d and %d seconds only", out.EntryValid, out.AttrValid)
	}
	none := lookup(t, f, 1, "nothing")
	if none.NodeId != 0 || none.EntryValid < 1e9 {
		t.Errorf("missing name: got node %d for %d s, want a negative entry for ever", none.NodeId, none.EntryValid)
	}
	var bad fuse.EntryOut
	if st := f.Lookup(nil, &fuse.InHeader{NodeId: 1}, "bad", &bad); st != statusCorrupt {
		t.Errorf("corrupt inode: got %v, want EUCLEAN", st)
	}
	if st := f.Lookup(nil, &fuse.InHeader{NodeId: 999}, "x", &bad); st != statusCorrupt {
		t.Errorf("unknown node: got %v, want EUCLEAN", st)
	}
	owner := uint32(7)
	g := New(tree, r, Options{UID: &owner, GID: &owner, CacheTimeout: 1500 * time.Millisecond})
	out = lookup(t, g, 1, "big")
	if out.Uid != 7 || out.Gid != 7 || out.EntryValid != 1 || out.EntryValidNsec != 5e8 {
		t.Errorf("with options: got %+v", out)
	}
}

func TestReadWholePartsAndEnds(t *testing.T) {
	tree, r := fake()
	f := New(tree, r, Options{})
	big := tree.inodes[40].data
	for _, c := range []struct{ off, n, want int }{
		{0, 1 << 20, len(big)}, {0, 10, 10}, {4090, 20, 20}, {len(big) - 5, 100, 5}, {len(big), 10, 0}, {1 << 40, 10, 0},
	} {
		got, st := read(f, 40, uint64(c.off), c.n)
		want := ""
		if c.off < len(big) {
			want = big[c.off : c.off+c.want]
		}
		if st != fuse.OK || got != want {
			t.Errorf("read %d at %d: %v, %d bytes, want %d", c.n, c.off, st, len(got), c.want)
		}
	}
	zero := lookup(t, f, 1, "zero")
	if got, st := read(f, zero.NodeId, 5, 100); st != fuse.OK || got != "of number zero" {
		t.Errorf("inline: %q, %v", got, st)
	}
	if got, st := read(f, 43, 0, 4*fakeChunk); st != fuse.OK || got != strings.Repeat("\x00", fakeChunk)+strings.Repeat("x", fakeChunk)+strings.Repeat("\x00", 2*fakeChunk) {
		t.Errorf("holes: %d bytes, %v", len(got), st)
	}
	if _, st := read(f, 40, 1<<63, 10); st != fuse.OK {
		t.Errorf("offset 2^63: %v", st)
	}
}

func TestReadErrorsAreReported(t *testing.T) {
	tree, r := fake()
	var reported []string
	f := New(tree, r, Options{OnError: func(op string, nid uint64, err error) {
		reported = append(reported, fmt.Sprintf("%s %d %v", op, nid, err))
	}})
	r.fail = errors.New("registry is down")
	if _, st := read(f, 40, 0, 10); st != fuse.EIO {
		t.Errorf("got %v, want EIO", st)
	}
	r.fail = context.Canceled
	if _, st := read(f, 40, 0, 10); st != fuse.EINTR {
		t.Errorf("interrupted: got %v, want EINTR", st)
	}
	r.fail = syscall.ENOSPC
	if _, st := read(f, 40, 0, 10); st != fuse.Status(syscall.ENOSPC) {
		t.Errorf("errno: got %v", st)
	}
	if want := "[read 40 registry is down]"; fmt.Sprint(reported) != want {
		t.Errorf("reported %v, want %v", reported, want)
	}
}

func TestListingPlusAndPages(t *testing.T) {
	tree, r := fake()
	delete(tree.inodes[36].names, "bad")
	f := New(tree, r, Options{})
	for _, size := range []int{1 << 16, 400} { // all at once, and in pages
		var names []string
		off := uint64(0)
		for range 20 {
			buf := make([]byte, size)
			l := fuse.NewDirEntryList(buf, off)
			if st := f.ReadDirPlus(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 1}, Offset: off, Size: uint32(size)}, l); st != fuse.OK {
				t.Fatal(st)
			}
			page, next := parsePlus(t, l.Bytes())
			if len(page) == 0 {
				break
			}
			names, off = append(names, page...), next
		}
		if got, want := strings.Join(names, " "), ".:0 ..:0 big:40 dir:42 link:41 one:"+fmt.Sprint(uint64(idOne))+" sparse:43 zero:"+fmt.Sprint(uint64(idZero)); got != want {
			t.Errorf("pages of %d: got %s, want %s", size, got, want)
		}
	}
}

// parsePlus decodes fuse_direntplus records to "name:node".
func parsePlus(t *testing.T, b []byte) (names []string, next uint64) {
	t.Helper()
	const entry = 128
	le := func(p []byte) (v uint64) {
		for i := range p {
			v |= uint64(p[i]) << (8 * i)
		}
		return v
	}
	for len(b) >= entry+24 {
		node := le(b[:8])
		d := b[entry:]
		next = le(d[8:16])
		n := int(le(d[16:20]))
		names = append(names, fmt.Sprintf("%s:%d", d[24:24+n], node))
		b = b[min((entry+24+n+7)&^7, len(b)):]
	}
	return names, next
}

func TestXattrs(t *testing.T) {
	tree, r := fake()
	f := New(tree, r, Options{})
	h := &fuse.InHeader{NodeId: 40}
	if n, st := f.GetXAttr(nil, h, "user.k", nil); n != 5 || st != fuse.OK {
		t.Errorf("size: %d, %v", n, st)
	}
	dest := make([]byte, 10)
	if n, st := f.GetXAttr(nil, h, "user.k", dest); st != fuse.OK || string(dest[:n]) != "value" {
		t.Errorf("value: %q, %v", dest[:n], st)
	}
	if _, st := f.GetXAttr(nil, h, "user.k", dest[:4]); st != fuse.ERANGE {
		t.Errorf("small buffer: %v, want ERANGE", st)
	}
	if _, st := f.GetXAttr(nil, h, "user.none", dest); st != fuse.ENOATTR {
		t.Errorf("missing: %v, want ENODATA", st)
	}
	n, st := f.ListXAttr(nil, h, nil)
	if want := uint32(len("user.k user.longer ")); n != want || st != fuse.OK {
		t.Errorf("list size: %d, %v, want %d", n, st, want)
	}
	all := make([]byte, n)
	if n, st = f.ListXAttr(nil, h, all); st != fuse.OK || strings.Count(string(all[:n]), "\x00") != 2 {
		t.Errorf("list: %q, %v", all[:n], st)
	}
	if _, st := f.ListXAttr(nil, h, all[:3]); st != fuse.ERANGE {
		t.Errorf("list into a small buffer: %v, want ERANGE", st)
	}
	if _, st := New(tree, r, Options{NoXattrs: true}).GetXAttr(nil, h, "user.k", nil); st != fuse.ENOSYS {
		t.Errorf("without xattrs: %v, want ENOSYS", st)
	}
	if n, st := New(tree, r, Options{NoXattrs: true}).ListXAttr(nil, h, nil); n != 0 || st != fuse.OK {
		t.Errorf("names without xattrs: %d, %v, want none", n, st)
	}
}

func TestSeekDataAndHole(t *testing.T) {
	tree, r := fake()
	f := New(tree, r, Options{})
	const data, hole = 3, 4
	for _, c := range []struct {
		node, off uint64
		whence    uint32
		want      uint64
		st        fuse.Status
	}{
		{43, 0, data, fakeChunk, 0}, {43, 0, hole, 0, 0}, {43, fakeChunk + 9, data, fakeChunk + 9, 0},
		{43, fakeChunk, hole, 2 * fakeChunk, 0}, {43, 2 * fakeChunk, data, 0, fuse.Status(syscall.ENXIO)},
		{43, 1 << 20, hole, 0, fuse.Status(syscall.ENXIO)}, {40, 5, hole, 3*fakeChunk + 100, 0},
		{idZero, 3, data, 3, 0}, {idZero, 3, hole, 19, 0}, {40, 0, 0, 0, fuse.EINVAL},
	} {
		in := &fuse.LseekIn{InHeader: fuse.InHeader{NodeId: c.node}, Offset: c.off, Whence: c.whence}
		var out fuse.LseekOut
		if st := f.Lseek(nil, in, &out); st != c.st || st == fuse.OK && out.Offset != c.want {
			t.Errorf("node %d from %d whence %d: got %d, %v, want %d, %v", c.node, c.off, c.whence, out.Offset, st, c.want, c.st)
		}
	}
}

func TestOpenOnlyForReading(t *testing.T) {
	tree, r := fake()
	f := New(tree, r, Options{})
	if st := f.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: 40}}, &fuse.OpenOut{}); st != fuse.ENOSYS {
		t.Errorf("open: %v, want ENOSYS", st)
	}
	if st := f.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: 40}, Flags: syscall.O_RDWR}, &fuse.OpenOut{}); st != fuse.EROFS {
		t.Errorf("open for writing: %v, want EROFS", st)
	}
}

func TestPassthroughOpens(t *testing.T) {
	tree, r := fake()
	b := &backing{nid: 40}
	d := &decided{}
	f := New(tree, r, Options{Passthrough: b})
	f.decide = d
	open := func(node uint64, flags uint32, handle uint64) {
		t.Helper()
		var out fuse.OpenOut
		if st := f.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: node}}, &out); st != fuse.OK || out.OpenFlags != flags || out.Fh != handle {
			t.Errorf("open of node %d: %v, %+v; want flags %#x, handle %d", node, st, out, flags, handle)
		}
		f.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: node}, Fh: out.Fh})
	}
	const ordinary = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	open(43, ordinary, 0)
	open(40, ordinary, handleCounted)
	if d.ordinary != 1 || d.closed != 1 || b.closed != 1 {
		t.Errorf("ordinary open: %+v, closed %d", d, b.closed)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	b.file = file
	open(40, fuse.FOPEN_PASSTHROUGH|fuse.FOPEN_NOFLUSH, handleCounted)
	if d.passed != 1 || d.closed != 2 || b.closed != 2 || f.Counts().Passthrough != 1 {
		t.Errorf("passthrough: %+v, closed %d", d, b.closed)
	}
	if err := file.Close(); err == nil {
		t.Error("the backing file was left open")
	}
	if err := f.TryPassthrough(nil); err == nil {
		t.Error("passthrough without a server: no error")
	}
}

// backing has a file for one inode.
type backing struct {
	nid    uint64
	file   *os.File
	closed int
}

func (b *backing) Backing(nid uint64) (*os.File, bool) { return b.file, nid == b.nid }
func (b *backing) Closed(uint64)                       { b.closed++ }

// decided counts what a server would be asked.
type decided struct{ passed, ordinary, closed int }

func (d *decided) Open(_ uint64, _ int, out *fuse.OpenOut) bool {
	d.passed++
	out.OpenFlags = fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH
	return true
}
func (d *decided) OpenOrdinary(uint64, *fuse.OpenOut) { d.ordinary++ }
func (d *decided) Close(uint64)                       { d.closed++ }

func TestHitsDoNotAllocate(t *testing.T) {
	tree, r := fake()
	r.present = true
	f := New(tree, r, Options{})
	h := &fuse.InHeader{NodeId: 1}
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 40}, Size: 9000, Offset: 100}
	buf := make([]byte, 9000)
	var entry fuse.EntryOut
	var attr fuse.AttrOut
	for name, op := range map[string]func(){
		"lookup":  func() { f.Lookup(nil, h, "big", &entry) },
		"missing": func() { f.Lookup(nil, h, "none", &entry) },
		"getattr": func() { f.GetAttr(nil, &fuse.GetAttrIn{InHeader: *h}, &attr) },
		"read": func() {
			if res, st := f.Read(nil, in, buf); st == fuse.OK {
				res.Done()
			}
		},
	} {
		// A garbage collection in between may empty the pools, so one in a
		// thousand is let pass.
		if n := testing.AllocsPerRun(1000, op); n >= 0.01 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestObserverSeesReads(t *testing.T) {
	tree, r := fake()
	var o observer
	f := New(tree, r, Options{Observer: &o})
	read(f, 40, 10, 20)
	r.fail = errors.New("no")
	read(f, 40, 0, 5)
	if want := "40@10+20 <nil>; 40@0+0 no; "; o.log != want {
		t.Errorf("got %q, want %q", o.log, want)
	}
	if c := f.Counts(); c.Reads != 2 || c.ReadBytes != 20 || c.Errors != 1 {
		t.Errorf("counts: %+v", c)
	}
}

type observer struct{ log string }

func (o *observer) Read(nid uint64, off int64, n int, _ time.Duration, err error) {
	o.log += fmt.Sprintf("%d@%d+%d %v; ", nid, off, n, err)
}
