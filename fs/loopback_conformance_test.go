//go:build linux

package fs_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// mountLoopback mounts a loopback of a new directory, and returns the mount
// and that directory.
func mountLoopback(t testing.TB, opts *fs.Options) (mnt, orig string) {
	t.Helper()
	testenv.MountFUSE(t)
	mnt, orig = t.TempDir(), t.TempDir()
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		t.Fatal(err)
	}
	mount(t, mnt, root, opts)
	return mnt, orig
}

func mount(t testing.TB, mnt string, root fs.InodeEmbedder, opts *fs.Options) *fuse.Server {
	t.Helper()
	server, err := fs.Mount(mnt, root, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			syscall.Unmount(mnt, 2) // MNT_DETACH
			t.Errorf("unmount: %v", err)
		}
	})
	return server
}

func TestIntegrationLoopbackConformance(t *testing.T) {
	second := time.Second
	for name, opts := range map[string]*fs.Options{
		"cached":   {EntryTimeout: &second, AttrTimeout: &second},
		"uncached": {},
		"device":   {MountOptions: fuse.MountOptions{Transport: fuse.TransportDevice}},
	} {
		t.Run(name, func(t *testing.T) {
			opts.MountOptions.Options = []string{"default_permissions"}
			mnt, _ := mountLoopback(t, opts)
			fstest.Run(t, mnt, fstest.Options{})
		})
	}
}
