//go:build unix && !linux

package cache

import "errors"

// Punch is not supported: without holes there is no eviction of chunks, and
// a blob leaves the cache as a whole.
func (f *osFile) Punch(off, n int64) error { return errors.ErrUnsupported }

// TryLockByte lets every process fetch for itself where Linux's locks of
// open files are missing.
func (f *osFile) TryLockByte(off int64) (bool, error) { return true, nil }

func (f *osFile) UnlockByte(off int64) error { return nil }

func identity(_ int, inode uint64) uint64 { return inode }

func (f *osFile) NextData(off int64) (int64, error) { return off, nil }
