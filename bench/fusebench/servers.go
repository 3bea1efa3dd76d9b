package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	peerfs "github.com/hanwen/go-fuse/v2/fs"
	peer "github.com/hanwen/go-fuse/v2/fuse"
	jacobsa "github.com/jacobsa/fuse"
	"github.com/jacobsa/fuse/fuseops"
	"github.com/jacobsa/fuse/fuseutil"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

const maxWrite = 1 << 20

// profileVar names the environment variable that tells a server where to write
// its profile.
const profileVar = "FUSEBENCH_PROFILE"

// runServer is the child process: which is NAME:MODE.
func runServer(which, mnt, back, profile string) error {
	name, number, _ := strings.Cut(which, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	if profile == "" {
		profile = os.Getenv(profileVar)
	}
	if profile != "" && strings.HasPrefix(name, "sluice") {
		f, err := os.Create(profile + "." + name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	signal.Ignore(os.Interrupt) // the parent unmounts, which ends us
	switch name {
	case "go-fuse":
		return servePeer(mode(n), mnt, back, false)
	case "go-fuse-pass":
		return servePeer(mode(n), mnt, back, true)
	case "jacobsa":
		return serveJacobsa(mnt)
	case "sluice":
		return serveSluice(mode(n), mnt, back, fuse.TransportAuto, plain)
	case "sluice-device":
		return serveSluice(mode(n), mnt, back, fuse.TransportDevice, plain)
	case "sluice-pass":
		return serveSluice(mode(n), mnt, back, fuse.TransportAuto, passing)
	case "sluice-direct":
		return serveSluice(mode(n), mnt, back, fuse.TransportAuto, direct)
	}
	if slices.Contains(daemonServers, name) {
		return serveDirectory(name, mode(n), mnt, back)
	}
	return fmt.Errorf("no server %q", which)
}

func timeouts(m mode) *time.Duration {
	d := 10 * time.Second
	switch m {
	case meta:
		d = 0
	case own: // what go-fuse's example of a loopback has, and our daemon
		d = time.Second
	}
	return &d
}

// way is how file data goes.
type way int

const (
	plain   way = iota // through the page cache
	passing            // passthrough: the server is not asked
	direct             // FOPEN_DIRECT_IO: not through the page cache
)

func serveSluice(m mode, mnt, back string, tr fuse.Transport, w way) error {
	mo := fuse.MountOptions{MaxWrite: maxWrite, FsName: "fusebench", Name: "sluice", Transport: tr, DirectMount: true, MaxReadAhead: maxWrite,
		AllowOther: true}
	switch m {
	case null:
		return serveRaw(&nullFS{RawFileSystem: fuse.NewDefaultRawFileSystem()}, mnt, &mo)
	case fixed:
		tree, err := newFixedFS(back, "small", "many")
		if err != nil {
			return err
		}
		return serveRaw(tree, mnt, &mo)
	}
	root, err := fs.NewLoopbackRoot(back)
	if err != nil {
		return err
	}
	root.(*fs.LoopbackNode).RootData.NoPassthrough = w != passing
	// Files do not change behind the mount here; the default of fuse.NewServer.
	mo.DisabledCapabilities = fuse.CAP_AUTO_INVAL_DATA
	o := fs.Options{MountOptions: mo, EntryTimeout: timeouts(m), AttrTimeout: timeouts(m), NullPermissions: true}
	if w == direct {
		return serveRaw(&directFS{fs.NewNodeFS(root, &o)}, mnt, &mo)
	}
	s, err := fs.Mount(mnt, root, &o)
	if err != nil {
		return err
	}
	s.Wait()
	return nil
}

func serveRaw(tree fuse.RawFileSystem, mnt string, mo *fuse.MountOptions) error {
	s, err := fuse.NewServer(tree, mnt, mo)
	if err != nil {
		return err
	}
	s.Serve()
	return nil
}

// directFS is a file system whose files are not cached by the kernel.
type directFS struct{ fuse.RawFileSystem }

func (f *directFS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	st := f.RawFileSystem.Open(cancel, in, out)
	out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	return st
}

func (f *directFS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	st := f.RawFileSystem.Create(cancel, in, name, out)
	out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	return st
}

// nullFS has a root and nothing else.
type nullFS struct{ fuse.RawFileSystem }

func (*nullFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	return fuse.OK
}

func servePeer(m mode, mnt, back string, pass bool) error {
	mo := peer.MountOptions{MaxWrite: maxWrite, FsName: "fusebench", Name: "gofuse", DirectMount: true, MaxReadAhead: maxWrite,
		AllowOther: true}
	if !pass { // its default; a row of its own, as ours
		mo.DisabledCapabilities = peer.CAP_PASSTHROUGH
	}
	if m == null {
		s, err := peer.NewServer(&peerNull{peer.NewDefaultRawFileSystem()}, mnt, &mo)
		if err != nil {
			return err
		}
		s.Serve()
		return nil
	}
	root, err := peerfs.NewLoopbackRoot(back)
	if err != nil {
		return err
	}
	s, err := peerfs.Mount(mnt, root, &peerfs.Options{MountOptions: mo, EntryTimeout: timeouts(m), AttrTimeout: timeouts(m), NullPermissions: true})
	if err != nil {
		return err
	}
	s.Wait()
	return nil
}

type peerNull struct{ peer.RawFileSystem }

func (*peerNull) GetAttr(_ <-chan struct{}, in *peer.GetAttrIn, out *peer.AttrOut) peer.Status {
	out.Attr = peer.Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	return peer.OK
}

func serveJacobsa(mnt string) error {
	m, err := jacobsa.Mount(mnt, fuseutil.NewFileSystemServer(&jacobsaNull{}), &jacobsa.MountConfig{FSName: "fusebench"})
	if err != nil {
		return err
	}
	return m.Join(context.Background())
}

type jacobsaNull struct {
	fuseutil.NotImplementedFileSystem
}

func (*jacobsaNull) StatFS(context.Context, *fuseops.StatFSOp) error { return nil }

func (*jacobsaNull) OpenDir(context.Context, *fuseops.OpenDirOp) error { return nil }

func (*jacobsaNull) GetInodeAttributes(_ context.Context, op *fuseops.GetInodeAttributesOp) error {
	op.Attributes = fuseops.InodeAttributes{Nlink: 2, Mode: os.ModeDir | 0o755}
	return nil
}
