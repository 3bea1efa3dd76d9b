package passthrough

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// leased reports whether nobody else has the file open, the kernel in our name
// included: then there is a lease to be had.
func leased(t *testing.T, path string) bool {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return err == nil
}

// A file that was closed is kept open for whoever opens it next, but not for
// good: nobody else could have it for himself, and a removed one would take
// room.
func TestIntegrationRests(t *testing.T) {
	for name, o := range map[string]Options{"passthrough": {}, "no passthrough": {NoPassthrough: true}} {
		t.Run(name, func(t *testing.T) {
			mnt, orig := mount(t, o)
			below := filepath.Join(orig, "f")
			if err := os.WriteFile(below, []byte("some data"), 0o644); err != nil {
				t.Fatal(err)
			}
			if !leased(t, below) {
				testenv.Missing(t, "leases", "the file system of the temporary directory has none")
			}
			for range 3 {
				if b, err := os.ReadFile(mnt + "/f"); err != nil || string(b) != "some data" {
					t.Fatalf("read: %q, %v", b, err)
				}
			}
			if err := os.WriteFile(below, []byte("other"), 0o644); err != nil {
				t.Fatal(err)
			}
			testenv.Until(t, "the change is seen", func() bool {
				b, err := os.ReadFile(mnt + "/f")
				return err == nil && string(b) == "other"
			})
			if err := os.WriteFile(mnt+"/f", []byte("through the mount"), 0o644); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(below); err != nil || string(b) != "through the mount" {
				t.Errorf("below: %q, %v", b, err)
			}
			testenv.Until(t, "the file is not open any more", func() bool { return leased(t, below) })
		})
	}
}
