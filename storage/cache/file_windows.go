package cache

import "errors"

// openDir is not supported: a cache on disk needs Unix file locks.
func openDir(path string) (directory, error) { return nil, errors.ErrUnsupported }
