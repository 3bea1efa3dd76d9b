package vfs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

// Who has a directory as the current one while the file system is detached goes
// on looking names up there. They lie below a directory that has lost its name,
// and are dropped all the same once nobody uses them.
func TestIntegrationWalksOn(t *testing.T) {
	orig := t.TempDir()
	if err := os.MkdirAll(orig+"/a/b/c/d", 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		t.Fatal(err)
	}
	u := New(nil)
	dir, server := mounted(t, u)
	mustAttach(t, u, "/m", fs.NewNodeFS(root, nil))
	flush(t, server)
	fd, err := unix.Open(dir+"/m/a/b", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := u.Detach(t.Context(), "/m", Lazy)
	if err != nil {
		t.Fatal(err)
	}
	u.drop(m, []string{"a"})
	flush(t, server)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "c/d", &st, 0); err != nil {
		t.Errorf("a look-up after the detach: %v", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, "the kernel has forgotten all", func() bool { return len(u.Mounts()) == 0 })
}
