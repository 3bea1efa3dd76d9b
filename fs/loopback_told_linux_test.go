package fs

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// listPlus lists the root of k by READDIRPLUS, and returns the node ids by
// name; 0 for those without attributes.
func (k kernel) listPlus(t *testing.T) map[string]uint64 {
	t.Helper()
	var open fuse.OpenOut
	header := fuse.InHeader{NodeId: 1}
	if st := k.b.OpenDir(nil, &fuse.OpenIn{InHeader: header}, &open); !st.Ok() {
		t.Fatal(st)
	}
	defer k.b.ReleaseDir(&fuse.ReleaseIn{InHeader: header, Fh: open.Fh})
	list := fuse.NewDirEntryList(make([]byte, 64<<10), 0)
	if st := k.b.ReadDirPlus(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh}, list); !st.Ok() {
		t.Fatal(st)
	}
	ids := map[string]uint64{}
	const entry, dirent = 128, 24 // struct fuse_entry_out and fuse_dirent
	for b := list.Bytes(); len(b) > 0; {
		n := int(binary.NativeEndian.Uint32(b[entry+16:]))
		ids[string(b[entry+dirent:][:n])] = binary.NativeEndian.Uint64(b)
		b = b[entry+(dirent+n+7)&^7:]
	}
	return ids
}

// TestLoopbackListsKnownFilesBriefly lists files that were looked up just
// before and others.
func TestLoopbackListsKnownFilesBriefly(t *testing.T) {
	hour, second := time.Hour, time.Second
	for _, c := range []struct {
		name  string
		opts  Options
		age   uint32 // ms between the look-up and the listing, beyond what the test takes
		brief bool
	}{
		{"just now", Options{EntryTimeout: &hour, AttrTimeout: &hour}, 0, true},
		{"long ago", Options{EntryTimeout: &hour, AttrTimeout: &hour}, 31 * 60 * 1000, false},
		{"attributes that last shorter than names", Options{EntryTimeout: &hour, AttrTimeout: &second}, 500, false},
		{"names that last shorter than attributes", Options{EntryTimeout: &second, AttrTimeout: &hour}, 500, false},
		{"nothing cached", Options{}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"known", "forgotten", "replaced", "other"} {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			root, err := NewLoopbackRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			k := newKernel(root, &c.opts)
			t.Cleanup(k.b.OnUnmount)
			ids := map[string]uint64{}
			for _, name := range []string{"known", "forgotten", "replaced"} {
				id, st := k.lookup(1, name)
				if !st.Ok() {
					t.Fatal(st)
				}
				ids[name] = id
			}
			k.b.started = k.b.started.Add(-time.Duration(c.age) * time.Millisecond)
			k.b.Forget(ids["forgotten"], 1)
			if err := os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "replaced")); err != nil {
				t.Fatal(err)
			}
			listed := k.listPlus(t)
			if got := listed["known"]; (got == 0) != c.brief || got != 0 && got != ids["known"] {
				t.Errorf("a file that is known: listed as node %d, looked up as %d, want it brief: %t", got, ids["known"], c.brief)
			}
			if listed["forgotten"] == 0 {
				t.Error("a file that the kernel has forgotten is listed without attributes")
			}
			if got := listed["replaced"]; got == 0 || got == ids["replaced"] {
				t.Errorf("another file under a known name: listed as node %d, the former was %d", got, ids["replaced"])
			}
			if again := k.listPlus(t)["forgotten"]; c.brief && again != 0 {
				t.Errorf("a file that was listed just before: listed as node %d, want 0", again)
			}
		})
	}
}
