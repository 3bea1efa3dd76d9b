package vfs

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// An ordinary user gets to files of a union whose kernel asks for access
// control lists, through directories and file systems that know of none.
func TestIntegrationACLOfOrdinaryUsers(t *testing.T) {
	testenv.Root(t)
	testenv.MountFUSE(t)
	orig, mnt := t.TempDir(), t.TempDir()
	if err := os.Chmod(orig, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(orig+"/file", []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		t.Fatal(err)
	}
	u := New(nil)
	mustAttach(t, u, "/dir/data", fs.NewNodeFS(root, &fs.Options{}))
	mustAttach(t, u, "/leaf", newLeaf("abc"))
	mountOn(t, mnt, u, &fuse.MountOptions{
		Name: "sluice-test", AllowOther: true, EnableAcl: true, Options: []string{"default_permissions"}, ExtraCapabilities: Capabilities,
	})
	for _, path := range []string{"dir/data/file", "leaf/name", "leaf/sub/deep"} {
		if err := openAs(mnt, path, 65534); err != nil {
			t.Errorf("%s as an ordinary user: %v", path, err)
		}
	}
	var b [64]byte
	if _, err := unix.Lgetxattr(mnt+"/leaf/name", "user.a", b[:]); err != unix.EOPNOTSUPP {
		t.Errorf("an attribute of a file system without: %v, want EOPNOTSUPP", err)
	}
}

// openAs opens path in dir, which is reached as root, with the rights of uid.
func openAs(dir, path string, uid int) error {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		_, _ = unix.SetfsgidRetGid(uid)
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			done <- err
			return
		}
		fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		done <- err
	}()
	return <-done
}
