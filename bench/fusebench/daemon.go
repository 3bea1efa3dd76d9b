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
var daemonServers = []string{ourDir, ourDir + "-device", ourUnion, ourUnionDev, ourUnionPass}

const (
	ourDir       = "sluice-dir"
	ourUnion     = "sluice-union"
	ourUnionDev  = "sluice-union-device"
	ourUnionPass = "sluice-union-pass"
)

// daemonFloors are those of the daemon's directories: what a union adds to the
// same directory alone, a twentieth of the rate and 1 µs of the server for each
// request; three times go-fuse for metadata; and files that the kernel reads and
// writes by itself, beside native ones.
func daemonFloors() (all []floor) {
	for _, r := range []struct {
		row      string
		requests float64 // of an operation
	}{
		{"stat1", 2}, {"stat8", 2}, {"open", 3}, {"openread", 5}, {"create", 5}, {"direct1", 1}, {"direct8", 1},
		{"seqread", 8}, {"seqwrite", 8}, {"readdir", 2},
	} {
		all = append(all, floor{r.row, ourUnion, rate, ourDir, 0.95}, floor{r.row, ourUnion, added, ourDir, r.requests})
	}
	for _, row := range []string{
		"stat1", "stat8", "open", "create", "readdir", "stat-own", "open-own", "create-own", "readdir-own", "find", "git",
	} {
		for _, s := range []string{ourUnion, ourUnionDev, ourUnionPass} {
			all = append(all, floor{row, s, rate, peerGo, 3})
		}
	}
	for _, row := range []string{"seqread", "seqwrite", "seqread-128k", "seqwrite-128k"} {
		all = append(all, floor{row, ourUnionPass, rate, tmpfs, 0.9})
	}
	return all
}

// daemonKinds are the servers of those that are wanted.
func daemonKinds(wanted string, self func(name string) func(mode, string, string) []string) (all []kind) {
	for _, name := range daemonServers {
		if !strings.Contains(","+wanted+",", ","+name+",") {
			continue
		}
		modes := meta | data | trees | own
		if name == ourUnionPass {
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
	dir, err := passthrough.New(back, passthrough.Options{Cache: cache, NoPassthrough: name != ourUnionPass})
	if err != nil {
		return err
	}
	mo := fuse.MountOptions{MaxWrite: maxWrite, FsName: "fusebench", Name: "sluice", DirectMount: true,
		MaxReadAhead: maxWrite, AllowOther: true, ExtraCapabilities: vfs.Capabilities}
	if strings.HasSuffix(name, "-device") {
		mo.Transport = fuse.TransportDevice
	}
	if strings.HasPrefix(name, ourDir) {
		return serveRaw(dir, mnt, &mo)
	}
	union := vfs.New(&vfs.Options{Measure: true})
	if _, err := union.Attach("/", dir); err != nil {
		return err
	}
	return serveRaw(union, mnt, &mo)
}
