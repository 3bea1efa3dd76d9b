//go:build linux

package fs_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestIntegrationLoopbackStaysInside lets somebody swap a directory for a
// symbolic link that leads out, behind the back of the file system, while
// another one walks through it: nothing outside is ever read.
func TestIntegrationLoopbackStaysInside(t *testing.T) {
	mnt, orig := mountLoopback(t, nil)
	outside := t.TempDir()
	for _, dir := range []string{outside, filepath.Join(orig, "dir")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(orig, "dir", "f"), []byte("public"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(orig, "link")); err != nil {
		t.Fatal(err)
	}
	var dev unix.Stat_t
	if err := unix.Stat(mnt, &dev); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		at := unix.AT_FDCWD
		for {
			select {
			case <-done:
				return
			default:
				unix.Renameat2(at, filepath.Join(orig, "dir"), at, filepath.Join(orig, "link"), unix.RENAME_EXCHANGE)
			}
		}
	})
	public := 0
	for range 2000 {
		// NO_SYMLINKS: what is opened is what the file system served as dir/f
		fd, err := unix.Openat2(unix.AT_FDCWD, filepath.Join(mnt, "dir", "f"), &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
		if err != nil {
			continue
		}
		b := make([]byte, 6)
		n, _ := unix.Pread(fd, b, 0)
		if string(b[:n]) == "secret" {
			t.Error("a file outside of the root was read")
		}
		if string(b[:n]) == "public" {
			public++
		}
		unix.Close(fd)
	}
	close(done)
	wg.Wait()
	if public == 0 {
		t.Log("the file was never there to be read")
	}
}
