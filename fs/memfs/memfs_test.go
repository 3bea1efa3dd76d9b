package memfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/fs/memfs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// mount mounts a file system on a new directory for the time of the test.
func mount(t *testing.T, root fs.InodeEmbedder) string {
	t.Helper()
	testenv.MountFUSE(t)
	dir := t.TempDir()
	second := time.Second
	server, err := fs.Mount(dir, root, &fs.Options{
		EntryTimeout: &second,
		AttrTimeout:  &second,
		MountOptions: fuse.MountOptions{Options: []string{"default_permissions"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			syscall.Unmount(dir, 2) // MNT_DETACH
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestIntegrationConformance(t *testing.T) {
	fstest.Run(t, mount(t, memfs.New(memfs.Options{})), fstest.Options{})
}

func TestIntegrationQuota(t *testing.T) {
	root := memfs.New(memfs.Options{MaxBytes: 1 << 20, MaxInodes: 10})
	dir := mount(t, root)
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a file above the quota: got %v, want %v", err, syscall.ENOSPC)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// the space comes back when the kernel has forgotten the file
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if bytes, inodes := root.Used(); bytes == 0 && inodes == 1 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after the removal %d bytes and %d inodes are in use", bytes, inodes)
		}
	}
	for i := range 9 {
		if err := os.Mkdir(path+string(rune('0'+i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(path, 0o755); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an inode above the quota: got %v, want %v", err, syscall.ENOSPC)
	}
}
