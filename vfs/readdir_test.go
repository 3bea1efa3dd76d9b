package vfs

import (
	"math"
	"slices"
	"testing"

	"github.com/sluicefs/sluice/fuse"
)

// hashFS has offsets as ext4 has: hashes, in no relation to the number of
// entries, and the largest of all behind the last.
type hashFS struct{ *leafFS }

var hashed = []fuse.DirEntry{
	{Name: "low", Ino: 2, Off: 1 << 40}, {Name: "half", Ino: 3, Off: 1<<62 + 5}, {Name: "high", Ino: 4, Off: 0x7ffffffe<<32 | 7}, {Name: "end", Ino: 5, Off: math.MaxInt64},
}

func (h hashFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	for _, e := range hashed {
		if e.Off > in.Offset && !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// listed reads the root of u as the kernel does, some entries in each answer.
func listed(t *testing.T, u *FS, room int) (names []string) {
	t.Helper()
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}
	for range 100 {
		list := fuse.NewDirEntryList(make([]byte, room), in.Offset)
		request := in
		if st := u.ReadDir(nil, &request, list); st != fuse.OK {
			t.Fatal(st)
		}
		es, err := fuse.ParseDirEntries(list.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			return names
		}
		for _, e := range es {
			names = append(names, e.Name)
			in.Offset = e.Off
		}
	}
	t.Fatal("the listing has no end")
	return nil
}

// A listing is whole wherever it is taken up again, and so is what is attached
// in the directory.
func TestReadDirOffsets(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/", hashFS{newLeaf("x")})
	want := []string{"low", "half", "high", "end"}
	check := func() {
		t.Helper()
		for _, room := range []int{32, 64, 96, 4096} {
			if got := listed(t, u, room); !slices.Equal(got, want) {
				t.Errorf("room of %d: got %q, want %q", room, got, want)
			}
		}
	}
	check()
	mustAttach(t, u, "/one", newLeaf("x"))
	mustAttach(t, u, "/two", newLeaf("x"))
	want = append(want, "one", "two")
	check()
}
