package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// SpaceError says that what has to be kept on this machine has no place.
type SpaceError struct {
	Dir  string // where it was to go
	Need int64  // bytes that it takes at least
	Free int64  // bytes there; 0 if unknown
	Err  error  // what the system said, nil if it was not tried
}

func (e *SpaceError) Error() string {
	why := fmt.Sprintf("at least %s are needed", mebibytes(e.Need))
	switch {
	case e.Err == nil:
		why += fmt.Sprintf(", %s are free", mebibytes(e.Free))
	case e.Free > e.Need:
		why = fmt.Sprintf("the %s that are free did not suffice (%v)", mebibytes(e.Free), e.Err)
	default:
		why += fmt.Sprintf(" (%v)", e.Err)
	}
	return fmt.Sprintf("not enough space in %s: %s; make some (sluice cache prune), or name a directory on another disk by --cache-dir", e.Dir, why)
}

func (e *SpaceError) Unwrap() error { return e.Err }

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// needSpace returns an error if dir has less than need bytes left.
func needSpace(dir string, need int64) error {
	if free, ok := freeBytes(dir); ok && free < need {
		return &SpaceError{dir, need, free, nil}
	}
	return nil
}

// asSpaceError makes a SpaceError of one that says that dir is full.
func asSpaceError(err error, dir string, need int64) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) || errno != syscall.ENOSPC && errno != syscall.EDQUOT {
		return err
	}
	free, _ := freeBytes(dir)
	return &SpaceError{dir, need, free, errno}
}

// clearDir removes the files in dir, which somebody left half-written there.
func clearDir(dir string) error {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
