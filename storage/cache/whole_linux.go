package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// wholeSum is the extended attribute that has the BLAKE3 of a whole file.
const wholeSum = "user.sluice.blake3"

// keepFree is the part of a disk that whole files leave free: they save
// time, and are not worth a full disk.
const keepFree = 20

func (d *osDir) OpenWhole(name string) (*os.File, []byte, error) {
	path := filepath.Join(d.path, name)
	fd, err := unix.Openat(int(d.f.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	sum := make([]byte, 33)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != uint32(os.Geteuid()) || st.Mode&0o222 != 0) {
		err = errUnsafe
	}
	if err == nil {
		n := 0
		if n, err = unix.Fgetxattr(fd, wholeSum, sum); err == nil && n != 32 {
			err = errUnsafe
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if now := time.Now(); now.Unix()-st.Mtim.Sec >= 60 {
		ts := unix.NsecToTimespec(now.UnixNano())
		// Only the order of eviction suffers when this fails.
		_ = unix.UtimesNanoAt(int(d.f.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	return f, sum[:32], nil
}

func (d *osDir) MakeWhole(name string, size int64, dense bool, fill func(*os.File) ([]byte, error)) error {
	path := filepath.Join(d.path, name)
	var sfs unix.Statfs_t
	if err := retryInterrupted(func() error { return unix.Fstatfs(int(d.f.Fd()), &sfs) }); err != nil {
		return err
	}
	if free := int64(sfs.Bavail) * int64(sfs.Bsize); free-size < int64(sfs.Blocks)*int64(sfs.Bsize)/keepFree {
		return errNoRoom
	}
	fd, err := unix.Openat(int(d.f.Fd()), ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "make", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if dense { // in one piece, or not at all
		err = retryInterrupted(func() error { return unix.Fallocate(fd, 0, 0, size) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
	}
	if err == nil {
		err = f.Truncate(size)
	}
	var sum []byte
	if err == nil {
		sum, err = fill(f)
	}
	if err == nil {
		err = unix.Fsetxattr(fd, wholeSum, sum, 0)
	}
	if err == nil {
		err = f.Chmod(0o400)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), int(d.f.Fd()), name, unix.AT_SYMLINK_FOLLOW)
		if err == unix.EEXIST { // another process was quicker
			return nil
		}
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: path, Err: err}
	}
	return d.Sync()
}

func (d *osDir) StatWhole(name string) (size, onDisk int64, used time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, 0, used, err
	}
	return st.Size, st.Blocks * 512, time.Unix(st.Mtim.Unix()), nil
}
