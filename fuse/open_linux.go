package fuse

import (
	"fmt"
	"maps"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/channel/device"
	"github.com/sluicefs/sluice/fuse/channel/uring"
	"github.com/sluicefs/sluice/fuse/mount"
	"github.com/sluicefs/sluice/internal/sys"
)

const edeadlk = Status(syscall.EDEADLK)

// openChannel picks the channel for a session whose descriptor is fd, mounted
// (or to be) at path, and hands fd over to it. Rings where the kernel has
// them: they answer on the core that asks.
func openChannel(fd int, path string, opts *MountOptions) (channel.Channel, error) {
	switch opts.Transport {
	case TransportAuto, TransportDevice, TransportURing:
	default:
		return nil, fmt.Errorf("transport %q is not known: use %q or %q, or none for the best", opts.Transport, TransportDevice, TransportURing)
	}
	why := "the option Transport asks for the device"
	if opts.Transport != TransportDevice {
		why = uring.Probe()
	}
	if why != "" && opts.Transport == TransportURing {
		return nil, fmt.Errorf("io_uring: %s", why)
	}
	do := deviceOptions(opts)
	if why == "" {
		do = besideRings(do)
	}
	dev, err := device.New(fd, do)
	if err != nil {
		return nil, err
	}
	if why != "" {
		return withReason{dev, dev, dev, map[string]string{"io_uring": why}}, nil
	}
	return uring.New(dev, fd, uring.Options{Depth: opts.RingDepth, Path: path})
}

// withReason adds reasons to what a device channel says of itself.
type withReason struct {
	channel.Channel
	channel.Backer
	channel.Transferable
	why map[string]string
}

func (c withReason) Caps() channel.Caps {
	caps := c.Channel.Caps()
	caps.Why = maps.Clone(caps.Why)
	if caps.Why == nil {
		caps.Why = make(map[string]string)
	}
	maps.Copy(caps.Why, c.why)
	return caps
}

// wantsRings reports whether openChannel will choose io_uring.
func wantsRings(opts *MountOptions) bool {
	return opts.Transport != TransportDevice && uring.Probe() == ""
}

func deviceOptions(opts *MountOptions) device.Options {
	o := device.Options{Readers: opts.Readers, Clone: opts.CloneFd}
	// The kernel counts in pages, also where MaxWrite is none.
	if n := opts.MaxWrite; n > 0 {
		o.MaxPayload = (min(n, 1<<30) + pageSize - 1) &^ (pageSize - 1)
	}
	if n := opts.MaxInflightRequestBytes; n > 0 {
		o.MaxRequests = max(n/max(o.MaxPayload, DefaultMaxWrite), 1)
	}
	return o
}

// besideRings are the options of a device that reads FORGETs and INTERRUPTs
// only.
func besideRings(o device.Options) device.Options {
	if o.Readers == 0 {
		o.Readers = 1
	}
	return o
}

func closeFD(fd int) { unix.Close(fd) }

// pollFile opens and polls a file, in a process of its own: this one may be
// killed meanwhile, and a thread that waits for an answer which only this
// process can give would keep the session open, and so wait for ever. Where no
// process can be made, for lack of memory or by a limit of the user's, it must
// be a thread.
func pollFile(path string) {
	if k, err := sys.StartPoll(append([]byte(path), 0)); err == nil {
		_ = k.Wait()
		return
	}
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
	{unix.MS_NODIRATIME, func(o *mount.Options) { o.NoDirAtime = true }},
	{unix.MS_STRICTATIME, func(o *mount.Options) { o.StrictAtime = true }},
	{unix.MS_RDONLY, func(o *mount.Options) { o.ReadOnly = true }},
	{unix.MS_SYNCHRONOUS, func(o *mount.Options) { o.Sync = true }},
	{unix.MS_DIRSYNC, func(o *mount.Options) { o.DirSync = true }},
}
