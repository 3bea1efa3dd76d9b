package fuse_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
)

// Who unmounts may mount again in the same place at once, and get the device
// number of the first: the first server, as it ends, leaves that alone.
func TestIntegrationRemountAtOnce(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		s, dir := mounted(t, newDirectFS(), o)
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // if it is left
		for range 20 {
			err := unix.Unmount(dir, 0)
			for err == unix.EBUSY { // a close that has returned may be on its way
				time.Sleep(time.Millisecond)
				err = unix.Unmount(dir, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			again := *o
			next, err := fuse.NewServer(newDirectFS(), dir, &again)
			if err != nil {
				t.Fatal(err)
			}
			go next.Serve()
			if err := next.WaitMount(); err != nil {
				t.Fatal(err)
			}
			s.Wait()
			if err := statFile(dir + "/1"); err != nil {
				t.Fatalf("the new mount: %v", err)
			}
			s = next
		}
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	})
}
