package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// transport maps the text of --io.
func transport(s string) fuse.Transport {
	switch s {
	case "classic":
		return fuse.TransportDevice
	case "uring":
		return fuse.TransportURing
	}
	return fuse.TransportAuto
}

// run1 runs a program that lies on the mount at point and returns what it
// printed, without the line end. It goes through a shell: a Go program waits
// for exec with a lock held that serving the mount needs.
func (s *state) run1(ctx context.Context, point string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args...)...)
	cmd.Dir = s.opts.Dir
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + s.opts.Dir, "TMPDIR=" + s.opts.Dir,
		"GOROOT=" + point, "GOCACHE=" + filepath.Join(s.opts.Dir, "gocache"), "GOPATH=" + filepath.Join(s.opts.Dir, "gopath"),
		"GOTOOLCHAIN=local", "GOFLAGS=", "GOPROXY=off", "GO111MODULE=off", "CGO_ENABLED=0", "GOENV=off", "GOTELEMETRY=off",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// What it has started in its turn works on the mount too, and ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, lastLines(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// lastLines is the end of a program's complaint, in one line.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > 3 {
		lines = lines[len(lines)-3:]
	}
	return strings.Join(lines, "; ")
}

// Missing says in one line what this machine lacks for a demonstration that
// mounts, or "".
func Missing() string {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return ""
	}
	switch {
	case os.IsNotExist(err):
		return "there is no /dev/fuse: the kernel has no FUSE, or the container was not given the device (--device /dev/fuse)"
	case os.IsPermission(err):
		return "/dev/fuse may not be opened by this user: run as root, or let users open it (chmod 666 /dev/fuse)"
	}
	return "/dev/fuse cannot be opened: " + err.Error()
}
