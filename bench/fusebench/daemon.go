package main

import (
	"strings"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/passthrough"
	"github.com/sluicefs/sluice/vfs"
)

// The daemon's file system of directories, alone and in a union as the daemon
// has it: over rings where the kernel has them, which is the daemon's default,
// and over /dev/fuse, which it takes under a supervisor. They are measured if
// -servers names them:
//
//	go run ./fusebench -servers native,go-fuse,sluice-dir,sluice-union,sluice-union-device,sluice-union-pass
var daemonServers = []string{
	"sluice-dir", "sluice-dir-device", "sluice-union", "sluice-union-device", "sluice-union-pass",
}

// daemonKinds are the servers of those that are wanted.
func daemonKinds(wanted string, self func(name string) func(mode, string, string) []string) (all []kind) {
	for _, name := range daemonServers {
		if !strings.Contains(","+wanted+",", ","+name+",") {
			continue
		}
		modes := meta | data | trees | own
		if name == "sluice-union-pass" {
			modes = data | trees | own
		}
		all = append(all, kind{name: name, modes: modes, command: self(name)})
	}
	return all
}

// serveDirectory serves back as the daemon does.
func serveDirectory(name string, m mode, mnt, back string) error {
	cache := passthrough.CacheAuto
	if m == meta {
		cache = passthrough.CacheNone
	}
	dir, err := passthrough.New(back, passthrough.Options{Cache: cache, NoPassthrough: name != "sluice-union-pass"})
	if err != nil {
		return err
	}
	mo := fuse.MountOptions{MaxWrite: maxWrite, FsName: "fusebench", Name: "sluice", DirectMount: true,
		MaxReadAhead: maxWrite, AllowOther: true, ExtraCapabilities: vfs.Capabilities}
	if strings.HasSuffix(name, "-device") {
		mo.Transport = fuse.TransportDevice
	}
	if strings.HasPrefix(name, "sluice-dir") {
		return serveRaw(dir, mnt, &mo)
	}
	union := vfs.New(&vfs.Options{Measure: true})
	if _, err := union.Attach("/", dir); err != nil {
		return err
	}
	return serveRaw(union, mnt, &mo)
}
