//go:build unix

package source

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock is a lock on a directory, held through a file beside it. It goes with
// the process that has it.
type lock struct{ f *os.File }

var errInUse = errors.New("in use by another process")

func lockPath(dir string) string { return dir + ".lock" }

// tryLock takes the lock of dir for this process alone, or returns errInUse.
func tryLock(dir string) (*lock, error) {
	for {
		f, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
			err = errInUse
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		if current(f) {
			return &lock{f}, nil
		}
		f.Close() // it was removed in between: a lock on it keeps nobody out
	}
}

// current reports whether the file's name still leads to it.
func current(f *os.File) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// lockPoll is how often a lock that another has is tried.
const lockPoll = 100 * time.Millisecond

// lockConverted takes the lock of dir to use what is in it: for this process
// alone if there is nothing yet, else shared. waiting is called once if
// another process is at work.
func lockConverted(ctx context.Context, dir string, waiting func()) (*lock, error) {
	for first := true; ; first = false {
		l, err := tryLock(dir)
		if err == nil {
			return l, os.MkdirAll(dir, 0o700) // it may have been pruned meanwhile
		}
		if !errors.Is(err, errInUse) {
			return nil, err
		}
		if l := trySharedLock(dir); l != nil {
			return l, nil
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// trySharedLock takes the lock together with those who use a complete image.
func trySharedLock(dir string) *lock {
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	if flock(f, unix.LOCK_SH|unix.LOCK_NB) == nil && current(f) && complete(dir) {
		return &lock{f}
	}
	f.Close()
	return nil
}

// share lets others use what this process has made. In between, another may
// have the lock for a moment.
func (l *lock) share() error { return flock(l.f, unix.LOCK_SH) }

// Close gives the lock back.
func (l *lock) Close() error { return l.f.Close() }
