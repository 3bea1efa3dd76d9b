package mounts

import (
	"io/fs"
	"os"
	"path/filepath"
)

// RemoveTree removes a directory whose own directories may be read-only, as
// those of Go's module cache are.
func RemoveTree(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
