//go:build !linux

package device

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/sluicefs/sluice/fuse/channel"
)

// New says that /dev/fuse is not supported on this system.
func New(int, Options) (channel.Channel, error) {
	var o Options
	o.fill()
	return nil, fmt.Errorf("the FUSE device is not supported on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
