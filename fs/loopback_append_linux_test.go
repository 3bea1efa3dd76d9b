package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

// setAppendOnly does chattr +a, or -a, of a file.
func setAppendOnly(path string, on bool) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	const appendOnly = 0x20 // FS_APPEND_FL: linux/fs.h
	if flags &^= appendOnly; on {
		flags |= appendOnly
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags)
}

// A file that takes nothing but appends (chattr +a) takes those.
func TestIntegrationLoopbackAppendOnly(t *testing.T) {
	testenv.Root(t)
	testenv.MountFUSE(t)
	for _, pass := range []bool{false, true} {
		t.Run(fmt.Sprintf("passthrough=%t", pass), func(t *testing.T) {
			orig, mnt := t.TempDir(), t.TempDir()
			root, err := fs.NewLoopbackRoot(orig)
			if err != nil {
				t.Fatal(err)
			}
			root.(*fs.LoopbackNode).RootData.NoPassthrough = !pass
			mount(t, mnt, root, &fs.Options{})
			below, path := filepath.Join(orig, "log"), filepath.Join(mnt, "log")
			if err := os.WriteFile(below, []byte("one "), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := setAppendOnly(below, true); err != nil {
				t.Logf("the file system below has no append-only files: %v", err)
				return
			}
			t.Cleanup(func() { setAppendOnly(below, false) })
			if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0); !errors.Is(err, unix.EPERM) {
				unix.Close(fd)
				t.Errorf("open to write: %v, want EPERM", err)
			}
			for _, how := range []int{unix.O_WRONLY, unix.O_RDWR} {
				fd, err := unix.Open(path, how|unix.O_APPEND|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatalf("open to append: %v", err)
				}
				if _, err := unix.Write(fd, []byte("more ")); err != nil {
					t.Errorf("append: %v", err)
				}
				unix.Close(fd)
			}
			got, err := os.ReadFile(below)
			if want := "one more more "; err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}
