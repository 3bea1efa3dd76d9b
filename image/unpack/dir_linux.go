package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image"
)

// dir unpacks into the empty directory called name. All is made relative to
// the descriptor of its parent, by a name of one component, and without
// following a symbolic link.
func (u *unpacker) dir(name string) error {
	fd, err := unix.Open(name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	e := &extractor{unpacker: u, root: fd}
	var in image.Inode
	if err := u.t.Stat(u.t.Root(), &in); err != nil {
		return err
	}
	if err := e.children("", fd, in.NID, 0); err != nil {
		return err
	}
	return wrap("/", e.finish(fd, &in))
}

type extractor struct {
	*unpacker
	root int
}

// children unpacks what is in the directory nid, whose descriptor is fd.
func (e *extractor) children(dir string, fd int, nid uint64, depth int) error {
	children, err := e.list(dir, nid, depth)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := e.entry(dir, fd, c.name, c.nid, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry makes one name in the directory with descriptor fd.
func (e *extractor) entry(dir string, fd int, name string, nid uint64, depth int) error {
	file := path.Join(dir, name)
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return wrap(file, fs.ErrInvalid)
	}
	var in image.Inode
	if err := e.t.Stat(nid, &in); err != nil {
		return wrap(file, err)
	}
	e.result.Entries++
	if in.Mode&image.TypeMask == image.TypeDirectory {
		return e.subdir(file, fd, name, &in, depth)
	}
	if first, ok := e.linked(file, &in); ok {
		return wrap(file, e.link(first, fd, name))
	}
	switch in.Mode & image.TypeMask {
	case image.TypeRegular:
		return wrap(file, e.file(fd, name, &in))
	case image.TypeSymlink:
		target, err := e.t.Readlink(nid)
		if err == nil {
			err = unix.Symlinkat(string(target), fd, name)
		}
		if err != nil {
			return wrap(file, err)
		}
	default:
		if made, err := e.special(file, fd, name, &in); !made {
			return wrap(file, err)
		}
	}
	return wrap(file, e.finishAt(fd, name, &in))
}

func (e *extractor) subdir(file string, fd int, name string, in *image.Inode, depth int) error {
	if err := unix.Mkdirat(fd, name, 0o700); err != nil {
		return wrap(file, err)
	}
	sub, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap(file, err)
	}
	defer unix.Close(sub)
	if err := e.children(file, sub, in.NID, depth+1); err != nil {
		return err
	}
	return wrap(file, e.finish(sub, in))
}

// link makes a hard link to the file first, which this run has made.
func (e *extractor) link(first string, fd int, name string) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	if dir := path.Dir(first); dir != "." {
		how.Flags |= unix.O_DIRECTORY
		parent, err := unix.Openat2(e.root, dir, how)
		if err != nil {
			return err
		}
		defer unix.Close(parent)
		return unix.Linkat(parent, path.Base(first), fd, name, 0)
	}
	return unix.Linkat(e.root, first, fd, name, 0)
}

func (e *extractor) file(fd int, name string, in *image.Inode) error {
	n, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(n), name)
	off := int64(0)
	err = e.pieces(in, func(p []byte, n int64) error {
		var err error
		if p != nil && !allZero(p) { // zeros stay a hole
			_, err = f.WriteAt(p, off)
		}
		off += n
		return err
	})
	if err == nil {
		err = f.Truncate(int64(in.Size))
	}
	if err == nil {
		err = e.finish(int(f.Fd()), in)
	}
	return errors.Join(err, f.Close())
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// special makes a device, fifo or socket; false if it was left out.
func (e *extractor) special(file string, fd int, name string, in *image.Inode) (bool, error) {
	device := in.Mode&unix.S_IFMT == unix.S_IFCHR || in.Mode&unix.S_IFMT == unix.S_IFBLK
	if device && e.o.NoOwner {
		e.skip(file, "a device, which needs root")
		return false, nil
	}
	major, minor := split(in.Rdev)
	err := unix.Mknodat(fd, name, in.Mode&unix.S_IFMT|0o600, int(unix.Mkdev(major, minor)))
	return err == nil, err
}

func times(in *image.Inode) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: in.MTime, Nsec: int64(min(in.MTimeNsec, 999999999))}}
}

// finish sets the attributes of the open file or directory fd. The owner
// comes before the mode, of which a new owner takes bits away.
func (e *extractor) finish(fd int, in *image.Inode) error {
	if !e.o.NoOwner {
		if err := unix.Fchown(fd, int(in.UID), int(in.GID)); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	xattrs, err := e.xattrs(in.NID)
	if err != nil {
		return err
	}
	for name, value := range xattrs {
		if err := e.ignorable(name, unix.Fsetxattr(fd, name, []byte(value), 0)); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	if err := unix.Fchmod(fd, in.Mode&0o7777); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	ts := times(in)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), ts, 0); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// ignorable drops the error of an attribute that only root may set when the
// owner does not matter either.
func (e *extractor) ignorable(name string, err error) error {
	if e.o.NoOwner && errors.Is(err, unix.EPERM) && !strings.HasPrefix(name, "user.") {
		return nil
	}
	return err
}

// finishAt is finish for what can not be opened: symbolic links and special
// files. It does not follow a link.
func (e *extractor) finishAt(fd int, name string, in *image.Inode) error {
	if !e.o.NoOwner {
		if err := unix.Fchownat(fd, name, int(in.UID), int(in.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	xattrs, err := e.xattrs(in.NID)
	if err != nil {
		return err
	}
	at := fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)
	for attr, value := range xattrs {
		if err := e.ignorable(attr, unix.Lsetxattr(at, attr, []byte(value), 0)); err != nil {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	if in.Mode&image.TypeMask != image.TypeSymlink {
		if err := unix.Fchmodat(fd, name, in.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	return unix.UtimesNanoAt(fd, name, times(in), unix.AT_SYMLINK_NOFOLLOW)
}
