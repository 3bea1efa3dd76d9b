//go:build unix

package tarfs

import (
	"io/fs"
	"syscall"
)

// inode is the number by which an archive that was replaced is told from the
// one before it.
func inode(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino)
	}
	return 0
}
