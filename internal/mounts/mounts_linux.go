package mounts

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkPrivate makes sure that dir is this user's and nobody else's, and not
// a link planted by another.
func checkPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is not a directory", dir)
	}
	// In a user namespace the owner of /run may be unmapped; the mode check
	// and the attempt to write there decide then.
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d", dir, st.Uid)
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %o)", dir, st.Mode&0o777)
	}
	return nil
}

// tryLock takes the exclusive lock of f and reports whether it was free.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// cleanDead detaches the FUSE mount at mountpoint if no server is behind it.
func cleanDead(mountpoint string) {
	info, ok, err := Lookup(mountpoint)
	if err != nil || !ok || !info.Sluice() {
		return
	}
	if Dead(mountpoint) {
		_ = Detach(mountpoint, true)
	}
}

// Dead reports whether mountpoint is a FUSE mount whose server is gone. It
// asks for the file system's size, which the kernel does not remember.
func Dead(mountpoint string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(mountpoint, &st)
	// ECANCELED is what requests get while io_uring's queues are torn down.
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.ECANCELED)
}
