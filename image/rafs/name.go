package rafs

import (
	"bytes"
	"fmt"

	"github.com/sluicefs/sluice/image"
)

// File type bits of a mode, as in stat(2).
const (
	modeType    = 0o170000
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeSocket  = 0o140000
)

func formatError(format string, offset int64, what string, args ...any) error {
	return &image.FormatError{Format: format, Offset: offset, What: fmt.Sprintf(what, args...)}
}

// plainName reports whether a blob's id may be part of a path.
func plainName(id string) bool {
	for _, c := range []byte(id) {
		if c == '/' || c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// entryName reports whether b may be the name of a directory entry other
// than "." and "..".
func entryName(b []byte) bool {
	return len(b) > 0 && string(b) != "." && string(b) != ".." && bytes.IndexByte(b, '/') < 0 && bytes.IndexByte(b, 0) < 0
}

// linkTarget reports whether b may be the target of a symbolic link.
func linkTarget(b []byte) bool { return len(b) > 0 && bytes.IndexByte(b, 0) < 0 }
