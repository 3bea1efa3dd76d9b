//go:build unix

package cache

import (
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// osDir is a directory on disk. Files are opened relative to its descriptor
// and never through symbolic links: the directory may lie where others can
// write names.
type osDir struct {
	f    *os.File
	path string
	boot uint64
}

// openDir opens the directory at path, made with mode 0700 if it is not
// there. A symbolic link, and a directory that others may write, are
// refused.
func openDir(path string) (directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(filepath.Clean(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open cache", Path: path, Err: err}
	}
	d := &osDir{f: os.NewFile(uintptr(fd), path), path: path, boot: bootTag()}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&0o002 != 0 || st.Uid != uint32(os.Geteuid())) {
		err = errUnsafe
	}
	if err != nil {
		d.f.Close()
		return nil, &fs.PathError{Op: "open cache", Path: path, Err: err}
	}
	return d, nil
}

// bootTag condenses the kernel's boot id. Where there is none each process
// gets its own tag, and trusts only what was synced.
func bootTag() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if id := strings.ReplaceAll(string(b), "-", ""); err == nil && len(id) >= 16 {
		var v uint64
		if _, err := fmt.Sscanf(id[:16], "%x", &v); err == nil && v != 0 {
			return v
		}
	}
	var h maphash.Hash
	h.WriteString("boot")
	return h.Sum64() | 1
}

func (d *osDir) Boot() uint64 { return d.boot }
func (d *osDir) Sync() error  { return d.f.Sync() }
func (d *osDir) Close() error { return d.f.Close() }

func (d *osDir) Open(name string, create bool) (file, error) {
	flags := unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if create {
		flags |= unix.O_CREAT
	}
	fd, err := unix.Openat(int(d.f.Fd()), name, flags, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != uint32(os.Geteuid())) {
		err = errUnsafe
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	f := &osFile{File: os.NewFile(uintptr(fd), name), id: identity(fd, st.Ino)}
	f.number.Store(int64(fd))
	return f, nil
}

func (d *osDir) Remove(name string) error {
	return unix.Unlinkat(int(d.f.Fd()), name, 0)
}

func (d *osDir) Names() ([]string, error) {
	list, err := os.ReadDir(d.path)
	names := make([]string, 0, len(list))
	for _, e := range list {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

type osFile struct {
	*os.File
	id     uint64
	waits  atomic.Bool  // RWF_NOWAIT is not supported here
	number atomic.Int64 // the descriptor, -1 once closed
}

func (f *osFile) Close() error {
	f.number.Store(-1)
	return f.File.Close()
}

func (f *osFile) Identity() uint64 { return f.id }

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Blocks() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

func (f *osFile) TryLock(exclusive bool) (bool, error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	err := retryInterrupted(func() error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// retryInterrupted runs f until it is not interrupted by a signal: the Go
// runtime sends some for its own ends.
func retryInterrupted(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func (f *osFile) osFile() *os.File { return f.File }
