package passthrough

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// leased reports whether nobody else has the file open, the kernel in our name
// included: then there is a lease to be had.
func leased(t *testing.T, path string) bool {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return err == nil
}

// A file that was closed is kept open for whoever opens it next, but not for
// good: nobody else could have it for himself, and a removed one would take
// room.
func TestIntegrationRests(t *testing.T) {
	for name, o := range map[string]Options{"passthrough": {}, "no passthrough": {NoPassthrough: true}} {
		t.Run(name, func(t *testing.T) {
			mnt, orig := mount(t, o)
			below := filepath.Join(orig, "f")
			if err := os.WriteFile(below, []byte("some data"), 0o644); err != nil {
				t.Fatal(err)
			}
			if !leased(t, below) {
				testenv.Missing(t, "leases", "the file system of the temporary directory has none")
			}
			for range 3 {
				if b, err := os.ReadFile(mnt + "/f"); err != nil || string(b) != "some data" {
					t.Fatalf("read: %q, %v", b, err)
				}
			}
			if err := os.WriteFile(below, []byte("other"), 0o644); err != nil {
				t.Fatal(err)
			}
			testenv.Until(t, "the change is seen", func() bool {
				b, err := os.ReadFile(mnt + "/f")
				return err == nil && string(b) == "other"
			})
			if err := os.WriteFile(mnt+"/f", []byte("through the mount"), 0o644); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(below); err != nil || string(b) != "through the mount" {
				t.Errorf("below: %q, %v", b, err)
			}
			testenv.Until(t, "the file is not open any more", func() bool { return leased(t, below) })
		})
	}
}

// What a predecessor that was killed kept open rests until there is a server to
// give it back to; what it had open for writing, perhaps, does not rest later,
// for it could not be executed below.
func TestRestsAtSuccessor(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/closed", nil, 0o644), os.WriteFile(dir+"/open", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	if f.Transferable() != nil {
		return // an ordinary user's has no table
	}
	closed, opened := lookup(t, f, fuse.FUSE_ROOT_ID, "closed").NodeId, lookup(t, f, fuse.FUSE_ROOT_ID, "open").NodeId
	f.node(closed).rec.backing.Store(7)
	f.node(opened).rec.backing.Store(8)
	f.node(opened).rec.opens.Store(1)
	state, err := f.SaveState()
	if err != nil {
		t.Fatal(err)
	}
	g := open(t, dir)
	f.HandedOver()
	if err := g.RestoreState(state); err != nil {
		t.Fatal(err)
	}
	g.resting.mu.Lock()
	for i := range g.resting.queue {
		g.resting.queue[i].since = time.Time{}
	}
	g.resting.mu.Unlock()
	g.wakeRested()
	n := g.node(closed)
	n.mu.Lock()
	if !n.resting || n.rec.backing.Load() != 7 {
		t.Errorf("without a server: resting %v, backing file %d", n.resting, n.rec.backing.Load())
	}
	n.mu.Unlock()
	if g.rests(g.node(opened)) {
		t.Error("a file that may be open for writing is to rest")
	}
	g.Settle()
}
