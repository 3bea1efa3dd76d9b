package build

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	return openNamedTemp(dir)
}

// tempPrefix begins the names of temporary files.
const tempPrefix = ".sluice-"

// openNamedTemp creates a file with a temporary name in dir and locks it, so
// that others see that somebody writes it.
func openNamedTemp(dir string) (f *os.File, temp string, err error) {
	removeStale(dir)
	for {
		if f, err = os.CreateTemp(dir, tempPrefix+"*"); err != nil {
			return nil, "", err
		}
		var st unix.Stat_t
		err = errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX), unix.Fstat(int(f.Fd()), &st), f.Chmod(0o644))
		if err == nil && st.Nlink > 0 {
			return f, f.Name(), nil
		}
		f.Close()
		if err != nil {
			os.Remove(f.Name())
			return nil, "", err
		}
		// Taken for a stale one between its creation and the lock: again.
	}
}

// removeStale removes the temporary files in dir that nobody has locked:
// those of processes that were killed.
func removeStale(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, name := range names {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(name)
		}
		unix.Close(fd)
	}
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
