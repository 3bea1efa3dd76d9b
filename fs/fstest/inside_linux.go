package fstest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// StaysInside tests a file system that shows the directory orig on mnt:
// somebody swaps a directory for a symbolic link that leads out, behind its
// back, while another one walks through it, reads and writes.
// Nothing outside may be touched.
func StaysInside(t *testing.T, mnt, orig string) {
	t.Helper()
	outside := t.TempDir()
	for dir, text := range map[string]string{outside: "secret", filepath.Join(orig, "dir"): "public"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(orig, "link")); err != nil {
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
				_ = unix.Renameat2(at, filepath.Join(orig, "dir"), at, filepath.Join(orig, "link"), unix.RENAME_EXCHANGE)
			}
		}
	})
	// NO_SYMLINKS: what is opened is what the file system served as dir/f
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	public := 0
	for range 2000 {
		fd, err := unix.Openat2(unix.AT_FDCWD, filepath.Join(mnt, "dir", "f"), &how)
		if err != nil {
			continue
		}
		b := make([]byte, 6)
		n, _ := unix.Pread(fd, b, 0)
		switch string(b[:max(n, 0)]) {
		case "secret":
			t.Error("a file outside of the root was read")
		case "public":
			public++
		}
		_, _ = unix.Pwrite(fd, b[:max(n, 0)], 0)
		unix.Close(fd)
	}
	close(done)
	wg.Wait()
	if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
		t.Errorf("outside there are %v, %v", names, err)
	}
	if public == 0 {
		t.Log("the file was never there to be read")
	}
}
