package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// mounted mounts u and returns where.
func mounted(t *testing.T, u *FS) (dir string, server *fuse.Server) {
	t.Helper()
	testenv.MountFUSE(t)
	dir = t.TempDir()
	return dir, mountOn(t, dir, u, &fuse.MountOptions{Name: "sluice-test"})
}

// mountOn mounts u on dir until the test ends.
func mountOn(t *testing.T, dir string, u *FS, o *fuse.MountOptions) *fuse.Server {
	t.Helper()
	server, err := fuse.Mount(dir, u, o)
	if err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(3*time.Minute, func() {
		t.Error("the test takes too long: the session is aborted")
		_ = server.Abort()
	})
	t.Cleanup(func() {
		watchdog.Stop()
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
			_ = server.Abort()
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return server
}

func mustRead(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s: got %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// flush waits until the kernel has been told what changed.
func flush(t *testing.T, s *fuse.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Notifier().Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestIntegrationUnion(t *testing.T) {
	u := New(nil)
	mustAttach(t, u, "/img/one", newLeaf("one"))
	dir, server := mounted(t, u)
	mustRead(t, dir+"/img/one/name", "one")
	if _, err := os.Stat(dir + "/img/two"); !os.IsNotExist(err) {
		t.Fatalf("before attaching: %v", err)
	}
	two := newLeaf("two!")
	mustAttach(t, u, "/img/two", two)
	flush(t, server)
	mustRead(t, dir+"/img/two/sub/deep", "two!")
	if got := list(t, dir+"/img"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("listing: %v", got)
	}
	if got := list(t, dir+"/img/two"); !slices.Equal(got, []string{"name", "sub"}) {
		t.Errorf("listing of what is attached: %v", got)
	}
	mustAttach(t, u, "/img/two/three", newLeaf("three"))
	flush(t, server)
	if got := list(t, dir+"/img/two"); !slices.Equal(got, []string{"name", "sub", "three"}) {
		t.Errorf("listing with one attached inside: %v", got)
	}
	mustRead(t, dir+"/img/two/three/name", "three")
	mustRead(t, dir+"/img/two/three/../name", "two!")

	if err := os.Rename(dir+"/img/one/name", dir+"/img/two/name"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("rename across: %v", err)
	}
	if err := os.Link(dir+"/img/one/name", dir+"/img/two/n"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("link across: %v", err)
	}
	if err := os.Remove(dir + "/img/one"); err == nil {
		t.Error("what is attached could be removed")
	}
	var one, other syscall.Statfs_t
	if err := errors.Join(syscall.Statfs(dir+"/img/one", &one), syscall.Statfs(dir+"/img/two/name", &other)); err != nil {
		t.Fatal(err)
	}
	if one.Blocks != 3 || other.Blocks != 4 {
		t.Errorf("statfs: got %d and %d blocks, want 3 and 4", one.Blocks, other.Blocks)
	}
	// Notifications of a file system carry its own ids.
	if st := two.server.InodeNotify(2, 0, 0); st != fuse.OK {
		t.Errorf("invalidate a node that the kernel knows: %v", st)
	}
	if st := two.server.InodeNotify(99, 0, 0); st != fuse.ENOENT {
		t.Errorf("invalidate a node that the kernel does not know: %v", st)
	}
	if err := two.server.Unmount(); err == nil {
		t.Error("one file system could unmount all")
	}
}

func TestIntegrationDetachOpenFiles(t *testing.T) {
	u := New(nil)
	lazy, strict := newLeaf("lazy"), newLeaf("strict")
	ml, ms := mustAttach(t, u, "/lazy", lazy), mustAttach(t, u, "/strict", strict)
	dir, server := mounted(t, u)
	files := map[string]*os.File{}
	for _, n := range []string{"lazy", "strict"} {
		f, err := os.Open(dir + "/" + n + "/name")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[n] = f
	}
	for path, how := range map[string]How{"/lazy": Lazy, "/strict": Strict} {
		if _, err := u.Detach(t.Context(), path, how); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, server)
	for _, n := range []string{"lazy", "strict"} {
		if _, err := os.Stat(dir + "/" + n); !os.IsNotExist(err) {
			t.Errorf("%s after detaching: %v", n, err)
		}
	}
	if b, err := io.ReadAll(files["lazy"]); string(b) != "lazy" || err != nil {
		t.Errorf("open file of the lazily detached: %q, %v", b, err)
	}
	if b, err := io.ReadAll(files["strict"]); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("open file of the strictly detached: %q, %v, want ESTALE", b, err)
	}
	if strict.ended.Load() != 1 || lazy.ended.Load() != 0 {
		t.Errorf("ends: strict %d, lazy %d, want 1 and 0", strict.ended.Load(), lazy.ended.Load())
	}
	files["lazy"].Close()
	files["strict"].Close()
	// The kernel forgets unused nodes of a dropped name by itself.
	testenv.Until(t, "the lazily detached ends", func() bool { return lazy.ended.Load() == 1 })
	<-ml.Done()
	testenv.Until(t, "slots are free", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.slot(ml.slot) == nil && u.slot(ms.slot) == nil
	})
}

// Content must be new after each of many cycles, at a path and at the root.
func TestIntegrationReplaceCycles(t *testing.T) {
	for _, path := range []string{"/a/m", "/"} {
		t.Run("at "+path, func(t *testing.T) {
			u := New(nil)
			mustAttach(t, u, path, newLeaf("first"))
			dir, server := mounted(t, u)
			where := dir + path
			mustRead(t, where+"/name", "first")
			fd, err := os.Open(where)
			if err != nil {
				t.Fatal(err)
			}
			defer fd.Close()
			for i := range 300 {
				want := fmt.Sprintf("content %d", i)
				if i%10 == 3 {
					if _, err := u.Detach(t.Context(), path, Lazy); err != nil {
						t.Fatal(err)
					}
					flush(t, server)
					if _, err := os.Stat(where + "/name"); !os.IsNotExist(err) {
						t.Fatalf("cycle %d: after detach: %v", i, err)
					}
					mustAttach(t, u, path, newLeaf(want))
				} else if _, _, err := u.Replace(t.Context(), path, newLeaf(want), Lazy); err != nil {
					t.Fatal(err)
				}
				flush(t, server)
				mustRead(t, where+"/name", want)
				mustRead(t, where+"/sub/deep", want)
			}
			// A directory that is open since before lists what it was.
			if names, err := fd.Readdirnames(-1); err != nil || len(names) != 2 {
				t.Errorf("the old directory: %v, %v", names, err)
			}
		})
	}
}

func TestIntegrationMany(t *testing.T) {
	u := New(nil)
	const n = 4096
	for i := range n / 2 {
		mustAttach(t, u, fmt.Sprintf("/d%d/%d", i%7, i), newLeaf(fmt.Sprint(i)))
	}
	dir, server := mounted(t, u)
	for i := n / 2; i < n; i++ {
		mustAttach(t, u, fmt.Sprintf("/d%d/%d", i%7, i), newLeaf(fmt.Sprint(i)))
	}
	flush(t, server)
	for i := 0; i < n; i += 37 {
		mustRead(t, fmt.Sprintf("%s/d%d/%d/name", dir, i%7, i), fmt.Sprint(i))
	}
	total := 0
	for i := range 7 {
		total += len(list(t, fmt.Sprintf("%s/d%d", dir, i)))
	}
	if total != n {
		t.Errorf("listed: %d, want %d", total, n)
	}
}
