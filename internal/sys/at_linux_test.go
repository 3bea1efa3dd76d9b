package sys

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openDirectory returns a directory of the test and a descriptor of it.
func openDirectory(t *testing.T) (string, int) {
	t.Helper()
	path := t.TempDir()
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(dir) })
	return path, dir
}

// openAt is OpenAt that must succeed.
func openAt(t *testing.T, dir int, name string, flags int, mode uint32) int {
	t.Helper()
	fd, errno := OpenAt(dir, name, flags, mode)
	if errno != 0 {
		t.Fatalf("OpenAt %q with flags %#x: %v", name, flags, errno)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestOpenAtStaysInDirectory opens what would lead elsewhere.
func TestOpenAtStaysInDirectory(t *testing.T) {
	path, dir := openDirectory(t)
	for name, target := range map[string]string{"up": "..", "abs": "/", "file": "real", "self": "/proc/self/exe"} {
		if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	openAt(t, dir, "real", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDWR | unix.O_CREAT, unix.O_PATH | unix.O_DIRECTORY} {
		for _, name := range []string{"up", "abs", "file", "self", "..", "../x", "/", "real/", ""} {
			if fd, errno := OpenAt(dir, name, flags, 0o600); errno == 0 {
				unix.Close(fd)
				t.Errorf("OpenAt %q with flags %#x: got a descriptor, want an error", name, flags)
			}
		}
	}
	if fd, errno := OpenAt(dir, strings.Repeat("n", 256), unix.O_RDONLY, 0); errno != syscall.ENAMETOOLONG {
		t.Errorf("a name of 256 bytes: got %d, %v, want ENAMETOOLONG", fd, errno)
	}
	link := openAt(t, dir, "file", unix.O_PATH|unix.O_NOFOLLOW, 0)
	var st unix.Statx_t
	if errno := StatAt(link, "", unix.STATX_TYPE, &st); errno != 0 || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("a link opened with O_PATH: got mode %o, %v", st.Mode, errno)
	}
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	if fd, errno := OpenAt(proc, "0", unix.O_RDONLY, 0); errno == 0 {
		unix.Close(fd)
		t.Error("a link of /proc/self/fd was followed")
	}
}

// TestAttributesByDescriptor changes attributes through descriptors for
// reading, for writing and of O_PATH, of a file and a directory.
func TestAttributesByDescriptor(t *testing.T) {
	_, dir := openDirectory(t)
	openAt(t, dir, "file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if errno := MkdirAt(dir, "dir", 0o700); errno != 0 {
		t.Fatal(errno)
	}
	for _, c := range []struct {
		name, file string
		flags      int
	}{
		{"file for reading", "file", unix.O_RDONLY},
		{"file for writing", "file", unix.O_WRONLY},
		{"file by O_PATH", "file", unix.O_PATH | unix.O_NOFOLLOW},
		{"directory", "dir", unix.O_RDONLY | unix.O_DIRECTORY},
		{"directory by O_PATH", "dir", unix.O_PATH | unix.O_DIRECTORY},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd := openAt(t, dir, c.file, c.flags, 0)
			check := func(what string, errno syscall.Errno) {
				t.Helper()
				if errno != 0 {
					t.Errorf("%s: %v", what, errno)
				}
			}
			check("chmod", ChmodFD(fd, 0o751))
			check("chown", ChownFD(fd, os.Getuid(), -1))
			check("times", UtimesFD(fd, &[2]unix.Timespec{{Sec: 7, Nsec: 8}, {Nsec: unix.UTIME_OMIT}}))
			var st unix.Statx_t
			check("stat", StatAt(dir, c.file, unix.STATX_BASIC_STATS, &st))
			if st.Mode&0o7777 != 0o751 || st.Atime.Sec != 7 || st.Atime.Nsec != 8 || st.Mtime.Sec < 1000 {
				t.Errorf("attributes: got mode %o, atime %v, mtime %v", st.Mode, st.Atime, st.Mtime)
			}
			checkXattr(t, dir, c.file, fd)
		})
	}
}

// checkXattr sets, reads, lists and removes an extended attribute of the file
// of fd, which is called file in dir.
func checkXattr(t *testing.T, dir int, file string, fd int) {
	t.Helper()
	value := []byte("value")
	errno := SetxattrFD(fd, "user.test", value, 0)
	if errno == syscall.EOPNOTSUPP {
		t.Logf("extended attributes are not for this file system: %v", errno)
		return
	}
	if errno != 0 {
		t.Fatalf("setxattr: %v", errno)
	}
	buf := make([]byte, 64)
	n, errno := GetxattrFD(fd, "user.test", buf)
	if errno != 0 || !bytes.Equal(buf[:n], value) {
		t.Errorf("getxattr: got %q, %v", buf[:max(n, 0)], errno)
	}
	clear(buf)
	switch n, errno := GetxattrAt(dir, file, "user.test", buf); {
	case errno == syscall.ENOSYS || errno == syscall.EPERM:
		t.Logf("getxattrat: %v", errno)
	case errno != 0 || !bytes.Equal(buf[:n], value):
		t.Errorf("getxattrat: got %q, %v", buf[:max(n, 0)], errno)
	default:
		if n, errno := GetxattrAt(dir, file, "user.test", nil); n != len(value) || errno != 0 {
			t.Errorf("getxattrat for the size: got %d, %v", n, errno)
		}
		if _, errno := GetxattrAt(dir, file, "user.test", buf[:1]); errno != syscall.ERANGE {
			t.Errorf("getxattrat with room for 1 byte: got %v, want ERANGE", errno)
		}
	}
	n, errno = ListxattrFD(fd, buf)
	if errno != 0 || !slices.Contains(strings.Split(string(buf[:max(n, 0)]), "\x00"), "user.test") {
		t.Errorf("listxattr: got %q, %v", buf[:max(n, 0)], errno)
	}
	if errno := RemovexattrFD(fd, "user.test"); errno != 0 {
		t.Errorf("removexattr: %v", errno)
	}
	if _, errno := GetxattrFD(fd, "user.test", buf); errno != syscall.ENODATA {
		t.Errorf("getxattr of one removed: got %v, want ENODATA", errno)
	}
}
