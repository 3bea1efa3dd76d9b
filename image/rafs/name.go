package rafs

import (
	"bytes"
	"fmt"

	"github.com/sluicefs/sluice/image"
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
