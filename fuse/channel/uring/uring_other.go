//go:build !linux

package uring

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/sluicefs/sluice/fuse/channel"
)

// Probe says why there is no FUSE over io_uring: this is not Linux.
func Probe() string { return "not supported on " + runtime.GOOS }

// New says that FUSE over io_uring is not supported on this system.
func New(channel.Channel, int, Options) (channel.Channel, error) {
	var o Options
	o.fill(runtime.NumCPU())
	return nil, fmt.Errorf("FUSE over io_uring: %s: %w", Probe(), errors.ErrUnsupported)
}
