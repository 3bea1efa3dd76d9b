package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	peerfs "github.com/hanwen/go-fuse/v2/fs"
	peer "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
)

// ready is what a server prints when its mount is there.
const ready = "ready\n"

// runServer serves back at point until it is unmounted.
func runServer(name, point, back string) error {
	signal.Ignore(os.Interrupt) // the parent unmounts, which ends us
	if name == "go-fuse" {
		return servePeer(point, back)
	}
	ref, err := source.Parse(back, source.Auto)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	target, err := serve.Open(context.Background(), ref, serve.Config{
		Source: source.Options{CacheDir: point + ".cache"}, Prefetch: "none", Log: quiet,
	})
	if err != nil {
		return err
	}
	defer target.Close()
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: point, Source: back, Type: "image", Fuse: target.Fuse, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return err
	}
	fmt.Print(ready)
	m.Wait()
	return nil
}

// servePeer is go-fuse's example of a loopback, with entries and attributes
// that the kernel may keep as long as it likes.
func servePeer(point, back string) error {
	root, err := peerfs.NewLoopbackRoot(back)
	if err != nil {
		return err
	}
	long := time.Hour
	s, err := peerfs.Mount(point, root, &peerfs.Options{
		EntryTimeout: &long, AttrTimeout: &long, NegativeTimeout: &long, NullPermissions: true,
		MountOptions: peer.MountOptions{FsName: back, Name: "loopback", DirectMount: true, MaxWrite: 1 << 20},
	})
	if err != nil {
		return err
	}
	fmt.Print(ready)
	s.Wait()
	return nil
}

// mounted is a server in a process of its own.
type mounted struct {
	point string
	cmd   *exec.Cmd
}

// mountServer starts a server and waits until it is ready.
func mountServer(work, name, back string) (*mounted, error) {
	m := &mounted{point: filepath.Join(work, name)}
	if err := os.Mkdir(m.point, 0o755); err != nil {
		return nil, err
	}
	m.cmd = exec.Command("/proc/self/exe", "-serve", name, m.point, back)
	m.cmd.Stderr = os.Stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != ready {
		_ = m.end()
		return nil, fmt.Errorf("server %s does not start: %w", name, err)
	}
	return m, nil
}

// end unmounts and waits for the server.
func (m *mounted) end() error {
	if err := unix.Unmount(m.point, 0); err != nil {
		_ = unix.Unmount(m.point, unix.MNT_DETACH)
	}
	return m.cmd.Wait()
}
