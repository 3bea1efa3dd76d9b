//go:build !linux

package mounts

import (
	"errors"
	"os"
)

var errUnsupported = errors.New("mounts are not supported on this system: sluice mounts on Linux")

// ErrBusy says that something on the mount is still open.
var ErrBusy = errors.New("busy")

// Info is a mount of the system; there are none that sluice could know here.
type Info struct {
	ID                                     int
	Dev, Mountpoint, Type, Source, Options string
}

// Sluice reports false.
func (Info) Sluice() bool { return false }

// User is a process that keeps a mount busy.
type User struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	What    string `json:"what"`
}

// String returns the command.
func (u User) String() string { return u.Command }

// Users returns none.
func Users(Info) []User { return nil }

// Lookup fails.
func Lookup(string) (Info, bool, error) { return Info{}, false, errUnsupported }

// Dead reports false.
func Dead(string) bool { return false }

// Detach fails.
func Detach(string, bool) error { return errUnsupported }

// Scratch is a directory for temporary files; there are none here.
type Scratch struct{ Path string }

// NewScratch fails.
func NewScratch(string) (*Scratch, error) { return nil, errUnsupported }

// Remove does nothing.
func (*Scratch) Remove() error { return nil }

func checkPrivate(string) error      { return nil }
func tryLock(*os.File) (bool, error) { return false, errUnsupported }
func cleanDead(string)               {}
