//go:build unix

package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// CheckCacheDir returns an error if others could put something into the cache
// directory dir, which is taken for good when it is read again: if every user
// may write it or put another in its place, if it is another user's, or a
// symbolic link. Root's directories are good for all, and those of the user who
// called sudo for root. One that is not there is made for this user alone.
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
	switch {
	case fi.Mode()&os.ModeSymlink != 0:
		why = "is a symbolic link: name the directory itself"
	case !fi.IsDir():
		why = "is not a directory"
	case fi.Mode()&0o002 != 0:
		why = "can be written by every user: chmod o-w, or name another by --cache-dir"
	case ok && !trusted(st.Uid):
		why = fmt.Sprintf("is of another user (%d): name another by --cache-dir", st.Uid)
	case replaceable(dir):
		why = "can be replaced by every user, who may write the directory above it: name another by --cache-dir"
	}
	if why != "" {
		return fmt.Errorf("cache directory %s %s", dir, why)
	}
	return nil
}

// trusted reports whether what the user uid keeps is as good as our own.
func trusted(uid uint32) bool {
	me := os.Geteuid()
	return int(uid) == me || uid == 0 || me == 0 && os.Getenv("SUDO_UID") == strconv.FormatUint(uint64(uid), 10)
}

// replaceable reports whether every user may rename dir.
func replaceable(dir string) bool {
	fi, err := os.Stat(filepath.Dir(dir))
	return err == nil && fi.Mode()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0
}
