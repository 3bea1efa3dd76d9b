//go:build !linux

package fs

import "syscall"

// ENOATTR says that an inode has no extended attribute of a name.
const ENOATTR = syscall.ENOATTR
