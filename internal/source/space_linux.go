package source

import "golang.org/x/sys/unix"

// freeBytes returns how much this user may still write in dir.
func freeBytes(dir string) (free int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 || st.Bsize <= 0 {
		return 0, false // some file systems do not count
	}
	return int64(min(st.Bavail, 1<<62/uint64(st.Bsize))) * st.Bsize, true
}
