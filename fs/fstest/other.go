//go:build !linux

package fstest

import "testing"

// The cases are written with system calls of Linux.
func unsupported(t *testing.T, dir string) { t.Skip("the cases of fstest.Run need Linux") }

var (
	writeRead, appendWrites, truncate, sparseWrite, openFlags, unlinked = unsupported, unsupported, unsupported, unsupported, unsupported, unsupported

	directories, readDirectory, seekDirectory, removeWhileReading, rename, renameOpen, renameFlags = unsupported, unsupported, unsupported, unsupported, unsupported, unsupported, unsupported

	symlinks, hardLinks, fifo, mode, times, xattr, allocate, punchHole, seekData, tmpfile = unsupported, unsupported, unsupported, unsupported, unsupported, unsupported, unsupported, unsupported, unsupported, unsupported

	mmap, statfs, longNames, parallel = unsupported, unsupported, unsupported, unsupported
)

// SetID needs Linux.
func SetID(t *testing.T, _, _, _ string, _ bool) { unsupported(t, "") }
