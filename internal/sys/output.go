package sys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Output says how a file is to be written that appears under the name path
// when it is complete. The name may be of nothing yet or of a regular file:
// then final is where the finished file is to be renamed to, which is not
// path if that is a symbolic link: the file that it leads to is replaced, so
// that /dev/stdout stays what it is. Anything else, such as a pipe or a
// device, is never replaced: it is returned open for writing, and the caller
// closes it. A directory, and a link that leads to nothing, are errors.
func Output(path string) (final string, through *os.File, err error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil, nil
	}
	if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		fi, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return "", nil, err
	case fi.IsDir():
		return "", nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("is a directory")}
	case fi.Mode().IsRegular():
		// A file that has no name any more is reached by the link only.
		if final, err = filepath.EvalSymlinks(path); err == nil {
			return final, nil, nil
		}
	}
	through, err = os.OpenFile(path, os.O_WRONLY, 0)
	return "", through, err
}
