package fuse

import (
	"os"
	"syscall"
	"time"
)

func (a *Attr) is(fileType uint32) bool { return a.Mode&syscall.S_IFMT == fileType }

// IsFifo reports whether a is of a named pipe.
func (a *Attr) IsFifo() bool { return a.is(syscall.S_IFIFO) }

// IsChar reports whether a is of a character device.
func (a *Attr) IsChar() bool { return a.is(syscall.S_IFCHR) }

// IsDir reports whether a is of a directory.
func (a *Attr) IsDir() bool { return a.is(syscall.S_IFDIR) }

// IsBlock reports whether a is of a block device.
func (a *Attr) IsBlock() bool { return a.is(syscall.S_IFBLK) }

// IsRegular reports whether a is of a regular file.
func (a *Attr) IsRegular() bool { return a.is(syscall.S_IFREG) }

// IsSymlink reports whether a is of a symbolic link.
func (a *Attr) IsSymlink() bool { return a.is(syscall.S_IFLNK) }

// IsSocket reports whether a is of a socket.
func (a *Attr) IsSocket() bool { return a.is(syscall.S_IFSOCK) }

// SetTimes sets the times that are not nil: of access, of modification, of
// status change.
func (a *Attr) SetTimes(access *time.Time, mod *time.Time, chstatus *time.Time) {
	if access != nil {
		a.Atime, a.Atimensec = unixTime(*access)
	}
	if mod != nil {
		a.Mtime, a.Mtimensec = unixTime(*mod)
	}
	if chstatus != nil {
		a.Ctime, a.Ctimensec = unixTime(*chstatus)
	}
}

// ChangeTime returns when the inode changed last.
func (a *Attr) ChangeTime() time.Time { return time.Unix(int64(a.Ctime), int64(a.Ctimensec)) }

// AccessTime returns when the file was read last.
func (a *Attr) AccessTime() time.Time { return time.Unix(int64(a.Atime), int64(a.Atimensec)) }

// ModTime returns when the file's content changed last.
func (a *Attr) ModTime() time.Time { return time.Unix(int64(a.Mtime), int64(a.Mtimensec)) }

func unixTime(t time.Time) (sec uint64, nsec uint32) {
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// ToStatT returns the system's own struct inside f, or nil.
func ToStatT(f os.FileInfo) *syscall.Stat_t {
	s, _ := f.Sys().(*syscall.Stat_t)
	return s
}

// ToAttr returns what f says as an Attr, or nil if f does not come from the
// system.
func ToAttr(f os.FileInfo) *Attr {
	if f == nil {
		return nil
	}
	s := ToStatT(f)
	if s == nil {
		return nil
	}
	a := new(Attr)
	a.FromStat(s)
	return a
}
