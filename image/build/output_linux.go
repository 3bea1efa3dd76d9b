package build

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openTemp creates a file in dir without a name, so that nothing stays even
// if the process is killed; where the file system can not do that, one with a
// temporary name.
func openTemp(dir string) (f *os.File, temp string, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(unnamed)"), "", nil
	}
	if f, err = os.CreateTemp(dir, ".sluice-*"); err != nil {
		return nil, "", err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, "", err
	}
	return f, f.Name(), nil
}

// publish gives the file its final name, in place of a file that has it.
func (o *outFile) publish() error {
	if o.temp != "" {
		return os.Rename(o.temp, o.name)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", o.f.Fd())
	err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, o.name, unix.AT_SYMLINK_FOLLOW)
	if err != unix.EEXIST {
		return err
	}
	// linkat replaces nothing: link beside it, then rename.
	var random [8]byte
	rand.Read(random[:])
	beside := o.name + "." + hex.EncodeToString(random[:])
	if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, beside, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	if err := os.Rename(beside, o.name); err != nil {
		os.Remove(beside)
		return err
	}
	return nil
}
