// Package fstest tests file systems: [Run] does to a mounted one what programs
// do, and checks that it behaves as POSIX and Linux say. It is meant for the
// tests of whoever writes a file system with package fs:
//
//	func TestFileSystem(t *testing.T) {
//		dir := t.TempDir()
//		server, err := fs.Mount(dir, newRoot(), nil)
//		if err != nil {
//			t.Fatal(err)
//		}
//		t.Cleanup(func() { server.Unmount() })
//		fstest.Run(t, dir, fstest.Options{})
//	}
//
// What a file system cannot do by its nature is named in [Options.Without].
// [ReadOnly] is the part for file systems that cannot be changed.
package fstest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Feature is something that not every file system has.
type Feature string

// The features that tests need beyond plain files and directories.
const (
	Symlinks     Feature = "symbolic links"
	HardLinks    Feature = "hard links"
	SpecialFiles Feature = "fifos"
	Xattr        Feature = "extended attributes"
	Allocate     Feature = "fallocate"
	PunchHole    Feature = "holes punched by fallocate"
	SeekData     Feature = "SEEK_DATA and SEEK_HOLE"
	Tmpfile      Feature = "O_TMPFILE"
	RenameFlags  Feature = "RENAME_NOREPLACE and RENAME_EXCHANGE"
	Times        Feature = "times that can be set"
	Mode         Feature = "permissions that can be set"
	Mmap         Feature = "shared mappings that can be written"
	Statfs       Feature = "statfs"
	LongNames    Feature = "names of 255 bytes"
)

// Options says what to test.
type Options struct {
	// Without names what the file system does not have. Its tests are left
	// out.
	Without []Feature
}

// Run tests the file system that is mounted on dir, in a new directory in it.
func Run(t *testing.T, dir string, opts Options) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range c.needs {
				if slices.Contains(opts.Without, f) {
					t.Skipf("the file system has no %s", f)
				}
			}
			work := filepath.Join(dir, "fstest-"+c.name)
			if err := os.Mkdir(work, 0o755); err != nil {
				t.Fatal(err)
			}
			c.run(t, work)
			if t.Failed() {
				return
			}
			if err := os.RemoveAll(work); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
	}
}

// testCase is one behaviour, tested in an empty directory.
type testCase struct {
	name  string
	needs []Feature
	run   func(t *testing.T, dir string)
}

var cases = []testCase{
	{"WriteRead", nil, writeRead},
	{"Append", nil, appendWrites},
	{"Truncate", nil, truncate},
	{"SparseWrite", nil, sparseWrite},
	{"OpenFlags", nil, openFlags},
	{"Unlinked", nil, unlinked},
	{"Directories", nil, directories},
	{"ReadDirectory", nil, readDirectory},
	{"SeekDirectory", nil, seekDirectory},
	{"RemoveWhileReading", nil, removeWhileReading},
	{"Rename", nil, rename},
	{"RenameOpen", nil, renameOpen},
	{"RenameFlags", []Feature{RenameFlags}, renameFlags},
	{"Symlinks", []Feature{Symlinks}, symlinks},
	{"HardLinks", []Feature{HardLinks}, hardLinks},
	{"Fifo", []Feature{SpecialFiles}, fifo},
	{"Mode", []Feature{Mode}, mode},
	{"Times", []Feature{Times}, times},
	{"Xattr", []Feature{Xattr}, xattr},
	{"Allocate", []Feature{Allocate}, allocate},
	{"PunchHole", []Feature{Allocate, PunchHole}, punchHole},
	{"SeekData", []Feature{SeekData}, seekData},
	{"Tmpfile", []Feature{Tmpfile}, tmpfile},
	{"Mmap", []Feature{Mmap}, mmap},
	{"Statfs", []Feature{Statfs}, statfs},
	{"LongNames", []Feature{LongNames}, longNames},
	{"Parallel", nil, parallel},
}
