package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kind is a way to serve; command gives the arguments for a mode.
type kind struct {
	name    string
	modes   mode
	native  bool   // no server: the directory itself
	back    string // of a native one, if not the common directory
	command func(m mode, mnt, back string) []string
}

// server is a running one.
type server struct {
	kind  *kind
	mode  mode
	mount string
	back  string
	cmd   *exec.Cmd

	profile string // where a server of ours writes its CPU profile, or ""
}

// findServers returns those that can be had here and were asked for.
func findServers(o *options, work string) []kind {
	self := func(name string) func(mode, string, string) []string {
		return func(m mode, mnt, back string) []string {
			return []string{"/proc/self/exe", "-serve", name + ":" + strconv.Itoa(int(m)), mnt, back}
		}
	}
	const loop = meta | data | trees
	all := []kind{
		{name: "native", modes: loop | fixed | own, native: true},
		{name: "go-fuse", modes: null | loop | own, command: self("go-fuse")},
		{name: "go-fuse-pass", modes: data | trees, command: self("go-fuse-pass")},
		{name: "jacobsa", modes: null, command: self("jacobsa")},
		{name: "sluice", modes: null | loop | fixed, command: self("sluice")},
		{name: "sluice-device", modes: null | loop, command: self("sluice-device")},
		{name: "sluice-pass", modes: data | trees, command: self("sluice-pass")},
		{name: "sluice-direct", modes: data, command: self("sluice-direct")},
	}
	all = append(all, daemonKinds(o.servers, self)...)
	if o.ext4 != "" {
		all = append(all, kind{name: "ext4", modes: loop | fixed, native: true, back: filepath.Join(o.ext4, filepath.Base(work))})
	}
	if dir := compileLibfuse(work); dir != "" {
		all = append(all, kind{name: "libfuse", modes: null | loop, command: libfuse(dir, "")})
	}
	if o.libfuse != "" {
		all = append(all,
			kind{name: "libfuse-new", modes: null | loop, command: libfuse(o.libfuse, "")},
			kind{name: "libfuse-single", modes: null | loop, command: libfuse(o.libfuse, "", "-s")},
			kind{name: "libfuse-uring", modes: null | loop, command: libfuse(o.libfuse, ",io_uring")})
	}
	if o.servers == "" {
		return all
	}
	var some []kind
	for _, k := range all {
		for name := range strings.SplitSeq(o.servers, ",") {
			if k.name == name {
				some = append(some, k)
			}
		}
	}
	return some
}

// compileLibfuse compiles the distribution's examples, or returns "".
func compileLibfuse(work string) string {
	const src = "/usr/share/doc/libfuse3-dev/examples"
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "fuse3").Output()
	if err != nil {
		return ""
	}
	for _, name := range []string{"passthrough_ll", "hello_ll"} {
		args := []string{"-O2", "-D_GNU_SOURCE", "-o", filepath.Join(work, name), filepath.Join(src, name+".c")}
		if out, err := exec.Command("gcc", append(args, strings.Fields(string(flags))...)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "libfuse of the distribution: left out: %v\n%s", err, out)
			return ""
		}
	}
	return work
}

func libfuse(dir, extra string, more ...string) func(mode, string, string) []string {
	return func(m mode, mnt, back string) []string {
		opts := "allow_other" + extra
		name := "passthrough_ll"
		switch m {
		case null:
			// hello_ll turns off what newer versions would use, io_uring
			// too; memfs_ll, which they have, does not.
			name = "memfs_ll"
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				name = "hello_ll"
			}
		case meta:
			opts = "timeout=0,source=" + back + "," + opts
		default:
			opts = "timeout=10,source=" + back + "," + opts
		}
		return append([]string{filepath.Join(dir, name), "-f", "-o", opts, mnt}, more...)
	}
}

func startServer(o *options, k *kind, m mode, mnt, back string) (*server, error) {
	s := &server{kind: k, mode: m, mount: mnt, back: back, profile: o.profile}
	if k.native {
		if k.back != "" {
			s.back = k.back
		}
		s.mount = s.back
		return s, nil
	}
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return nil, err
	}
	return s, s.start()
}

func (s *server) start() error {
	var before, now unix.Stat_t
	if err := unix.Stat(filepath.Dir(s.mount), &before); err != nil {
		return err
	}
	argv := s.kind.command(s.mode, s.mount, s.back)
	if argv[0] == "/proc/self/exe" {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		argv[0] = exe
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stderr = os.Stderr
	s.cmd.Env = append(os.Environ(), profileVar+"="+s.profile)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	gone := make(chan error, 1)
	cmd := s.cmd
	go func() { gone <- cmd.Wait() }()
	for range 1000 {
		if err := unix.Stat(s.mount, &now); err == nil && now.Dev != before.Dev {
			// What a server does when it sees itself mounted (raising the
			// read-ahead, say) shall be done by the first open.
			time.Sleep(300 * time.Millisecond)
			return nil
		}
		select {
		case err := <-gone:
			s.cmd = nil
			return fmt.Errorf("server ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.stop()
	return errors.New("nothing mounted in 10 s")
}

// stop unmounts, which ends the server; one that does not end is killed.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = unix.Unmount(s.mount, unix.MNT_DETACH)
	for range 500 {
		if unix.Kill(s.cmd.Process.Pid, 0) != nil {
			s.cmd = nil
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = s.cmd.Process.Kill()
	s.cmd = nil
}

func (s *server) restart() error {
	if s.kind.native {
		return nil
	}
	s.stop()
	return s.start()
}
