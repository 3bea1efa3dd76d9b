package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervise starts the command and waits for its end, as the first process of
// its namespace: it adopts what the command leaves behind and passes signals
// on, which the kernel would keep from a first process that has no handler for
// them. started is called when the command runs. The return value is the
// code to exit with.
func supervise(c Config, started func()) (int, error) {
	u, err := lookupUser(c.User, "/etc/passwd", "/etc/group")
	if err != nil {
		return 0, err
	}
	if !mapped(u.uid, u.gid) {
		if !c.UserOptional {
			return 0, fmt.Errorf("user %s (%d:%d): a user who is not root can be none but root here, as there is no such user in his namespace", c.User, u.uid, u.gid)
		}
		u = account{home: "/root"}
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); errors.Is(err, os.ErrNotExist) && !c.ReadOnly {
		_ = os.MkdirAll(dir, 0o755) // an image may name one that it does not have
	}
	if err := os.Chdir(dir); err != nil {
		return 0, fmt.Errorf("working directory: %w", err)
	}
	env := withHome(c.Env, u.home)
	path, err := lookPath(c.Args[0], env)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{}}
	attr.Sys.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups, NoSetGroups: !maySetGroups()}
	tty := -1
	if c.Terminal {
		if tty, err = openTerminal(u.uid); err != nil {
			return 0, fmt.Errorf("terminal: %w", err)
		}
		fd := uintptr(tty)
		attr.Files = []uintptr{fd, fd, fd}
		attr.Sys.Setsid, attr.Sys.Setctty = true, true
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, ForwardedFrom(os.Stdin)...)
	if both := FromTerminal(os.Stdin); len(both) > 0 {
		signal.Notify(make(chan os.Signal, 1), both...) // the command gets them from the terminal
	}
	pid, err := syscall.ForkExec(path, c.Args, attr)
	if tty >= 0 {
		unix.Close(tty)
	}
	if err != nil {
		return 0, fmt.Errorf("execute %s: %w", path, err)
	}
	started()
	go func() {
		for s := range signals {
			_ = syscall.Kill(pid, s.(syscall.Signal))
		}
	}()
	return reap(pid), nil
}

// reap waits for all children until pid has ended, and returns its code.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1
		case got == pid && status.Exited():
			return status.ExitStatus()
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		}
	}
}

// withHome adds HOME to env unless it is there.
func withHome(env []string, home string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "HOME=") {
			return env
		}
	}
	return append(env, "HOME="+home)
}

// maySetGroups reports whether this namespace lets a process change its
// groups.
func maySetGroups() bool {
	b, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || strings.TrimSpace(string(b)) != "deny"
}

// mapped reports whether the user and the group are known to the namespace
// that this process is in.
func mapped(uid, gid uint32) bool {
	return inMap("/proc/self/uid_map", uid) && inMap("/proc/self/gid_map", gid)
}

func inMap(path string, id uint32) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return true // the root has no /proc; the kernel will tell
	}
	for line := range strings.Lines(string(b)) {
		var first, outside, n uint64
		if _, err := fmt.Sscan(line, &first, &outside, &n); err == nil && uint64(id) >= first && uint64(id)-first < n {
			return true
		}
	}
	return false
}
