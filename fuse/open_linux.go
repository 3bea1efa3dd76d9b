package fuse

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/channel/device"
	"github.com/sluicefs/sluice/fuse/mount"
)

const edeadlk = Status(syscall.EDEADLK)

// openChannel picks the channel for a session whose descriptor is fd, and
// hands fd over to it.
func openChannel(fd int, opts *MountOptions) (channel.Channel, error) {
	dev, err := device.New(fd, deviceOptions(opts))
	if err != nil {
		return nil, err
	}
	return dev, nil
}

func deviceOptions(opts *MountOptions) device.Options {
	o := device.Options{Readers: opts.Readers, Clone: opts.CloneFd, MaxPayload: opts.MaxWrite}
	if n := opts.MaxInflightRequestBytes; n > 0 {
		o.MaxRequests = max(n/max(o.MaxPayload, DefaultMaxWrite), 1)
	}
	return o
}

func closeFD(fd int) { unix.Close(fd) }

// pollFile opens and polls a file by plain system calls.
func pollFile(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

// mountFlags are the flags of mount(2) that MountOptions.DirectMountFlags can
// have.
var mountFlags = []struct {
	flag uintptr
	set  func(*mount.Options)
}{
	{unix.MS_NOSUID, func(o *mount.Options) { o.NoSuid = true }},
	{unix.MS_NODEV, func(o *mount.Options) { o.NoDev = true }},
	{unix.MS_NOEXEC, func(o *mount.Options) { o.NoExec = true }},
	{unix.MS_NOATIME, func(o *mount.Options) { o.NoAtime = true }},
	{unix.MS_RDONLY, func(o *mount.Options) { o.ReadOnly = true }},
	{unix.MS_SYNCHRONOUS, func(o *mount.Options) { o.Sync = true }},
	{unix.MS_DIRSYNC, func(o *mount.Options) { o.DirSync = true }},
}
