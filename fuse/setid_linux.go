package fuse

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// withoutFSETID is sys.WithoutFSETID.
func withoutFSETID(f func()) bool { return sys.WithoutFSETID(f) }

// keepsSetGID reports whether fd is open on a file whose set-group-id bit stays
// if a member of its group writes.
func keepsSetGID(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&(syscall.S_ISGID|syscall.S_IXGRP) == syscall.S_ISGID
}
