//go:build unix

package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CheckCacheDir returns an error if others could put something into the cache
// directory dir, which is taken for good when it is read again: if every user
// may write it, if it is another user's, or a symbolic link. One that is not
// there is made for this user alone.
func CheckCacheDir(dir string) error {
	if dir == "" {
		return nil
	}
	dir = filepath.Clean(dir)
	fi, err := os.Lstat(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil // a mount goes on without a cache, and says so
		}
		fi, err = os.Lstat(dir)
	}
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	why := ""
	switch me := os.Geteuid(); {
	case fi.Mode()&os.ModeSymlink != 0:
		why = "is a symbolic link: name the directory itself"
	case !fi.IsDir():
		why = "is not a directory"
	case fi.Mode()&0o002 != 0:
		why = "can be written by every user: chmod o-w, or name another by --cache-dir"
	case ok && me != 0 && int(st.Uid) != me && st.Uid != 0:
		why = fmt.Sprintf("is of another user (%d): name another by --cache-dir", st.Uid)
	}
	if why != "" {
		return fmt.Errorf("cache directory %s %s", dir, why)
	}
	return nil
}
