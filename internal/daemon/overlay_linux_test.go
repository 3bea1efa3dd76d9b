package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/internal/testenv"
)

// upperOf makes the directories of an overlay where trusted attributes work:
// on the disk, or in memory.
func upperOf(t *testing.T) *Overlay {
	t.Helper()
	dir := t.TempDir()
	return &Overlay{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
}

// An overlay over an image behaves as one over any directory: what the image
// has is copied up, covered and replaced, and never changed.
func TestIntegrationOverlay(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "overlay")
	img := makeImage(t, 11)
	mnt, dir := mountDir(t), t.TempDir()
	spec := img.spec("/img")
	spec.Overlay = upperOf(t)
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"), Specs: []Spec{spec},
	}
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	at := func(name string) string { return filepath.Join(mnt, "img", name) }
	upper := func(name string) string { return filepath.Join(spec.Overlay.Upper, name) }
	eventually(t, "the overlay is mounted", func() error {
		_, err := os.Stat(filepath.Join(spec.Overlay.Work, "work"))
		return errors.Join(err, img.check(mnt+"/img"))
	})
	t.Cleanup(func() { _ = unix.Unmount(mnt+"/img", unix.MNT_DETACH) })

	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	// copy-up by a write in the middle
	f, err := os.OpenFile(at("dir3/file"), os.O_RDWR, 0)
	do("open", err)
	_, err = f.WriteAt([]byte("changed"), 1_000_000)
	do("write", err)
	do("xattr", unix.Setxattr(at("dir2/file"), "user.mark", []byte("x"), 0))
	do("link", os.Link(at("dir1/file"), at("dir1/link")))
	do("rename", os.Rename(at("dir0/file"), at("dir0/other")))
	do("remove", os.Remove(at("seed")))
	// an opaque directory: removed and made again
	do("remove all", os.RemoveAll(at("dir2")))
	do("mkdir", os.Mkdir(at("dir2"), 0o755))
	do("fill", os.WriteFile(at("dir2/new"), []byte("new"), 0o600))

	fstest.SetID(t, mnt+"/img", "", t.TempDir(), false)
	check := func() {
		t.Helper()
		want := bytes.Clone(img.files["dir3/file"])
		copy(want[1_000_000:], "changed")
		got, err := os.ReadFile(at("dir3/file"))
		do("read", err)
		if !bytes.Equal(got, want) {
			t.Error("the file that was written has other content")
		}
		// Inode numbers are no help: overlayfs changes them at a copy-up.
		var st unix.Stat_t
		do("stat", unix.Stat(at("dir1/file"), &st))
		do("write", os.WriteFile(at("dir1/link"), []byte("linked"), 0o644))
		linked, err := os.ReadFile(at("dir1/file"))
		do("read", err)
		if st.Nlink != 2 || string(linked) != "linked" {
			t.Errorf("hard link: %d links, content %q", st.Nlink, linked)
		}
		if _, err := os.Stat(at("seed")); !os.IsNotExist(err) {
			t.Errorf("a file that was removed: %v", err)
		}
		names := func(dir string) (all []string) {
			list, err := os.ReadDir(at(dir))
			do("list", err)
			for _, e := range list {
				all = append(all, e.Name())
			}
			return all
		}
		if got := names("dir2"); !slices.Equal(got, []string{"new"}) {
			t.Errorf("the opaque directory has %q", got)
		}
		if got := names("dir0"); !slices.Equal(got, []string{"other"}) {
			t.Errorf("after the rename there is %q", got)
		}
	}
	check()
	var st unix.Stat_t
	if err := unix.Lstat(upper("seed"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout: mode %o, %v", st.Mode, err)
	}
	b := make([]byte, 8)
	if n, err := unix.Getxattr(upper("dir2"), "trusted.overlay.opaque", b); err != nil || string(b[:n]) != "y" {
		t.Errorf("opaque mark: %q, %v", b[:max(n, 0)], err)
	}

	// it survives an upgrade, with the file that is open
	next := c
	next.From, next.Specs = c.Socket, nil
	q := startChild(t, next)
	p.wait(t)
	waitState(t, c.Socket, Running)
	check()
	if _, err := f.WriteAt([]byte("more"), 0); err != nil {
		t.Errorf("write to a file that was open: %v", err)
	}
	// strictly it cannot be taken from those who use it
	if status, _, err := call(c.Socket, "DELETE", "/v1/mounts/img", nil); err != nil || status == 204 {
		t.Errorf("unmount in use: status %d, %v", status, err)
	}
	f.Close()
	want(t, 204, c.Socket, "DELETE", "/v1/mounts/img", nil)
	if list, err := os.ReadDir(mnt); err != nil || len(list) != 0 {
		t.Errorf("after unmounting: %v, %v", list, err)
	}
	want(t, 204, c.Socket, "POST", "/v1/daemon/stop", nil)
	q.wait(t)
}

// What overlayfs does on a directory it does on an image.
func TestIntegrationOverlayConformance(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "overlay")
	img := makeImage(t, 12)
	socket := run(t, Options{OpenLess: true}, RunOptions{})
	mnt := os.Getenv("SLUICE_TEST_MOUNT")
	o := upperOf(t)
	want(t, 204, socket, "PUT", "/v1/mounts/img", map[string]any{
		"source": img.boot, "type": TypeRAFS, "config": img.config, "overlay": o,
	})
	t.Cleanup(func() { _ = unix.Unmount(mnt+"/img", unix.MNT_DETACH) })
	fstest.Run(t, mnt+"/img", fstest.Options{})
	if err := img.check(mnt + "/img"); err != nil {
		t.Error(err)
	}
}
