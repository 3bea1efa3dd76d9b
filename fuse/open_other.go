//go:build !linux

package fuse

import (
	"fmt"
	"runtime"
	"syscall"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/mount"
)

const edeadlk = Status(syscall.EDEADLK)

func openChannel(int, string, *MountOptions) (channel.Channel, error) {
	return nil, fmt.Errorf("/dev/fuse is not supported on %s: %w", runtime.GOOS, channel.ErrUnsupported)
}

func wantsRings(*MountOptions) bool { return false }

func closeFD(fd int) { syscall.Close(fd) }

func pollFile(string) {}

var mountFlags []struct {
	flag uintptr
	set  func(*mount.Options)
}
