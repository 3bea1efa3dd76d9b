package fuse

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// FromStat takes over what stat(2) answered. Flags is left as it is.
func (a *Attr) FromStat(s *syscall.Stat_t) {
	a.Ino = s.Ino
	a.Size = uint64(s.Size)
	a.Blocks = uint64(s.Blocks)
	a.Atime, a.Atimensec = uint64(s.Atim.Sec), uint32(s.Atim.Nsec)
	a.Mtime, a.Mtimensec = uint64(s.Mtim.Sec), uint32(s.Mtim.Nsec)
	a.Ctime, a.Ctimensec = uint64(s.Ctim.Sec), uint32(s.Ctim.Nsec)
	a.Mode = s.Mode
	a.Nlink = uint32(s.Nlink)
	a.Uid, a.Gid = s.Uid, s.Gid
	a.Rdev = uint32(s.Rdev)
	a.Blksize = uint32(s.Blksize)
}

// FromStatx takes over what statx(2) answered, which must have been asked for
// STATX_BASIC_STATS. Flags is left as it is.
func (a *Attr) FromStatx(s *unix.Statx_t) {
	a.Ino, a.Size, a.Blocks = s.Ino, s.Size, s.Blocks
	a.Atime, a.Atimensec = uint64(s.Atime.Sec), s.Atime.Nsec
	a.Mtime, a.Mtimensec = uint64(s.Mtime.Sec), s.Mtime.Nsec
	a.Ctime, a.Ctimensec = uint64(s.Ctime.Sec), s.Ctime.Nsec
	a.Mode, a.Nlink = uint32(s.Mode), s.Nlink
	a.Uid, a.Gid = s.Uid, s.Gid
	a.Rdev = uint32(unix.Mkdev(s.Rdev_major, s.Rdev_minor))
	a.Blksize = s.Blksize
}

// FromStatx takes over what statx(2) answered.
func (a *Statx) FromStatx(s *unix.Statx_t) {
	a.Mask = s.Mask
	a.Blksize = s.Blksize
	a.Attributes = s.Attributes
	a.Nlink = s.Nlink
	a.Uid, a.Gid = s.Uid, s.Gid
	a.Mode = s.Mode
	a.Ino = s.Ino
	a.Size = s.Size
	a.Blocks = s.Blocks
	a.AttributesMask = s.Attributes_mask
	a.Atime.FromStatxTimestamp(&s.Atime)
	a.Btime.FromStatxTimestamp(&s.Btime)
	a.Ctime.FromStatxTimestamp(&s.Ctime)
	a.Mtime.FromStatxTimestamp(&s.Mtime)
	a.RdevMajor, a.RdevMinor = s.Rdev_major, s.Rdev_minor
	a.DevMajor, a.DevMinor = s.Dev_major, s.Dev_minor
}

// FromStatxTimestamp takes over a time of statx(2).
func (t *SxTime) FromStatxTimestamp(ts *unix.StatxTimestamp) {
	t.Sec, t.Nsec = uint64(ts.Sec), ts.Nsec
}

// FromStatfsT takes over what statfs(2) answered.
func (s *StatfsOut) FromStatfsT(statfs *syscall.Statfs_t) {
	s.Blocks = statfs.Blocks
	s.Bfree = statfs.Bfree
	s.Bavail = statfs.Bavail
	s.Files = statfs.Files
	s.Ffree = statfs.Ffree
	s.Bsize = uint32(statfs.Bsize)
	s.Frsize = uint32(statfs.Frsize)
	s.NameLen = uint32(statfs.Namelen)
}
