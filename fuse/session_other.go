//go:build !linux

package fuse

import (
	"fmt"
	"runtime"
	"syscall"

	"github.com/sluicefs/sluice/fuse/channel"
)

func errHandover() error {
	return fmt.Errorf("handing a session over is not supported on %s: %w", runtime.GOOS, channel.ErrUnsupported)
}

func resumeChannel(*sessionState, *Session, *MountOptions) (channel.Channel, error) {
	return nil, errHandover()
}

// Close does nothing on this system.
func (s *Session) Close() error { return nil }

// Duplicate is not supported on this system.
func (s *Session) Duplicate() (*Session, error) { return nil, errHandover() }

// Send is not supported on this system.
func (s *Session) Send(syscall.Conn) error { return errHandover() }

// ReceiveSession is not supported on this system.
func ReceiveSession(syscall.Conn) (*Session, error) { return nil, errHandover() }
