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

// What a kernel writes behind a structure has room, also when only the
// structure came with the request.
func TestIoctlBuffer(t *testing.T) {
	head := []byte{0, 0, 64, 0} // struct fsverity_digest: 64 bytes may follow
	for cmd, want := range map[uint32]int{unix.FS_IOC_MEASURE_VERITY: 4 + 64, unix.FS_IOC_GETFLAGS: 8} {
		if b := ioctlBuffer(cmd, head, make([]byte, 4)); len(b) < want || string(b[:4]) != string(head) {
			t.Errorf("ioctl %#x: %d bytes, want %d", cmd, len(b), want)
		}
	}
	if b := ioctlBuffer(unix.FS_IOC_MEASURE_VERITY, make([]byte, 100), nil); len(b) < 100 {
		t.Errorf("%d bytes for an input of 100", len(b))
	}
}
