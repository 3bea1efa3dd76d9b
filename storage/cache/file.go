package cache

import "errors"

// file is what the cache needs of a file on disk. Tests put one in its place
// that loses what was not synced, or fails the n-th write.
type file interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error // what was written before survives a loss of power
	Size() (int64, error)
	Blocks() (int64, error) // bytes taken on disk
	Identity() uint64       // another value for each file that was ever made
	Truncate(size int64) error
	// NextData returns the first offset from off on that is not in a hole,
	// the size of the file if there is none.
	NextData(off int64) (int64, error)
	Punch(off, n int64) error // makes a hole; the size stays
	// TryLock takes the lock of the whole file without waiting and reports
	// whether it did; one that is held is changed from shared to exclusive
	// or back.
	TryLock(exclusive bool) (bool, error)
	// TryLockByte takes the exclusive lock of one byte without waiting. It
	// keeps out other processes only.
	TryLockByte(off int64) (bool, error)
	UnlockByte(off int64) error
	Close() error
}

// aroundReader is what a file may be beside: one that, where a small read has
// to wait for the disk, brings more of the bytes from lo to hi into memory.
type aroundReader interface {
	ReadAround(p []byte, off, lo, hi int64) (int, error)
}

// directory is a flat directory of files.
type directory interface {
	// Open opens a file for reading and writing; a file that is not there is
	// made if create is set, else the error is fs.ErrNotExist.
	Open(name string, create bool) (file, error)
	Remove(name string) error
	Names() ([]string, error)
	Sync() error // names that were made or removed survive a loss of power
	Close() error
	// Boot is another value after each start of the kernel, never 0.
	Boot() uint64
}

// errUnsafe says that a path of the cache is not what it has to be.
var errUnsafe = errors.New("not a private directory or plain file of this user")
