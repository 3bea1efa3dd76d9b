//go:build darwin || freebsd

package fuse

import "syscall"

// FromStat takes over what stat(2) answered. Flags is left as it is.
func (a *Attr) FromStat(s *syscall.Stat_t) {
	a.Ino = s.Ino
	a.Size = uint64(s.Size)
	a.Blocks = uint64(s.Blocks)
	a.Atime, a.Atimensec = uint64(s.Atimespec.Sec), uint32(s.Atimespec.Nsec)
	a.Mtime, a.Mtimensec = uint64(s.Mtimespec.Sec), uint32(s.Mtimespec.Nsec)
	a.Ctime, a.Ctimensec = uint64(s.Ctimespec.Sec), uint32(s.Ctimespec.Nsec)
	a.Mode = uint32(s.Mode)
	a.Nlink = uint32(s.Nlink)
	a.Uid, a.Gid = s.Uid, s.Gid
	a.Rdev = uint32(s.Rdev)
	a.Blksize = uint32(s.Blksize)
}
