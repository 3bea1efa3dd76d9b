//go:build !unix

package source

import (
	"context"
	"errors"
)

// lock is a lock on a directory; there is none on this system.
type lock struct{}

var errInUse = errors.New("locks on files are not supported on this system")

func lockPath(dir string) string { return dir + ".lock" }

func tryLock(string) (*lock, error) { return nil, errInUse }

func lockConverted(context.Context, string, func()) (*lock, error) { return nil, errInUse }

func (l *lock) share() error { return nil }

// Close does nothing.
func (l *lock) Close() error { return nil }
