package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Scratch is a directory for temporary files in which there may be mounts of
// this process. It is locked while it is in use, so that the next one to be
// made can tell what a killed process has left behind, and clear it away.
type Scratch struct {
	Path string
	lock *os.File
}

// scratchLock is the name of the locked file in a Scratch.
const scratchLock = ".lock"

// NewScratch makes a directory below os.TempDir whose name begins with prefix,
// after clearing away those of that prefix that dead processes of this user
// have left.
func NewScratch(prefix string) (*Scratch, error) {
	sweepScratch(prefix)
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("directory for temporary files (TMPDIR says where): %w", err)
	}
	s := &Scratch{Path: path}
	s.lock, err = os.OpenFile(filepath.Join(path, scratchLock), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if _, err := tryLock(s.lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), s.Remove())
	}
	return s, nil
}

// Remove removes the directory and all in it. What is mounted there has to be
// unmounted before.
func (s *Scratch) Remove() error {
	defer s.lock.Close()
	return RemoveTree(s.Path)
}

// sweepScratch clears away what it can; the rest is for another time.
func sweepScratch(prefix string) {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		if checkPrivate(dir) == nil {
			clearScratch(dir)
		}
	}
}

func clearScratch(dir string) {
	lock, err := os.OpenFile(filepath.Join(dir, scratchLock), os.O_RDWR, 0)
	if err != nil {
		return // not one of these, or one that is being made
	}
	defer lock.Close()
	if free, err := tryLock(lock); err != nil || !free {
		return
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return
	}
	below := func() (points []string) {
		all, err := ReadInfo("/proc/self/mountinfo")
		for _, m := range all {
			if Within(m.Mountpoint, real) {
				points = append(points, m.Mountpoint)
			}
		}
		if err != nil {
			return []string{real} // unknown: leave it alone
		}
		return points
	}
	for _, point := range below() {
		cleanDead(point)
	}
	if len(below()) == 0 {
		_ = RemoveTree(dir)
	}
}
