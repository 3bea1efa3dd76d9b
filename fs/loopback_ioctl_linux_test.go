package fs

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A loopback passes on no ioctl whose rights the kernel has not checked, and
// none with an address in it.
func TestLoopbackIoctlAllowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := NewLoopbackFile(fd).(*LoopbackFile) // which closes fd
	defer file.Release(t.Context())
	var f FileIoctler = file
	var below [8]byte
	for _, c := range []struct {
		name string
		cmd  uint32
	}{
		{"FS_IOC_GETFSLABEL", 0x81009431}, // ext4, xfs and btrfs know it
		{"FIONREAD", unix.TIOCINQ},        // all know it; arg is an address
		{"FS_IOC_ENABLE_VERITY", unix.FS_IOC_ENABLE_VERITY},
	} {
		if _, errno := f.Ioctl(t.Context(), c.cmd, 0, nil, below[:]); errno != syscall.ENOTTY {
			t.Errorf("%s: %v, want ENOTTY", c.name, errno)
		}
	}
	want, errGet := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	_, errno := f.Ioctl(t.Context(), unix.FS_IOC_GETFLAGS, 0, nil, below[:4])
	if got := int(binary.NativeEndian.Uint32(below[:])); errno != ToErrno(errGet) || errno == 0 && got != want {
		t.Errorf("FS_IOC_GETFLAGS: %#x, %v; want %#x, %v", got, errno, want, errGet)
	}
}
