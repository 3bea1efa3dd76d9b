package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs the command of c to its end. When ctx ends it is killed, and with
// it all it has started, since it is the first process of its namespace.
func Run(ctx context.Context, c Config, s Streams) (Result, error) {
	// Pdeathsig is about the thread that forks, not the process: it must live
	// as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The child mounts on it, in its own namespace; here it stays empty.
	base, err := os.MkdirTemp("", "sluice-root-")
	if err != nil {
		return Result{}, &SetupError{"directory for the root", err}
	}
	defer os.RemoveAll(base)
	c.Base = base
	conf, err := json.Marshal(c)
	if err != nil {
		return Result{}, &SetupError{"configuration", err}
	}
	confR, confW, err := os.Pipe()
	if err != nil {
		return Result{}, &SetupError{"pipe", err}
	}
	defer confR.Close()
	defer confW.Close()
	failR, failW, err := os.Pipe()
	if err != nil {
		return Result{}, &SetupError{"pipe", err}
	}
	defer failR.Close()
	defer failW.Close()

	var once sync.Once
	var first atomic.Int64
	start := time.Now()
	note := func() { first.Store(int64(max(time.Since(start), 1))) }
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{InitName}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	cmd.Stdout, cmd.Stderr = firstByte{&once, note, s.Stdout}, firstByte{&once, note, s.Stderr}
	cmd.ExtraFiles = []*os.File{confR, failW}
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return Result{}, &SetupError{"start in new namespaces", err}
	}
	failW.Close()
	_, writeErr := confW.Write(conf)
	confW.Close()
	failure, _ := io.ReadAll(io.LimitReader(failR, 4096))
	waitErr := cmd.Wait()
	res := Result{ExitCode: exitCode(cmd.ProcessState), FirstOutput: time.Duration(first.Load()), Total: time.Since(start)}
	if len(failure) > 0 {
		return res, &SetupError{"set up", errors.New(string(failure))}
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) && !errors.Is(waitErr, exec.ErrWaitDelay) {
		return res, &SetupError{"wait", waitErr}
	}
	if writeErr != nil && waitErr == nil {
		return res, &SetupError{"configuration", writeErr}
	}
	return res, nil
}

// attributes are those of the first process: namespaces of its own, and an
// end when this process ends.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		rootInUserNamespace(a)
	}
	return a
}

// rootInUserNamespace adds a user namespace in which this user is root.
func rootInUserNamespace(a *syscall.SysProcAttr) {
	a.Cloneflags |= unix.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
}

// exitCode returns the code that a shell would show for s.
func exitCode(s *os.ProcessState) int {
	if s == nil {
		return 1
	}
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// AsRoot runs this program again with args in a user namespace in which the
// user is root and may mount, and returns its exit code. The environment
// variable name is set to "1" there.
func AsRoot(ctx context.Context, args []string, name string) (int, error) {
	runtime.LockOSThread() // as in Run
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), name+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	rootInUserNamespace(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
			return 1, &SetupError{"user namespaces are not allowed here (as root it works without; see the sysctls kernel.unprivileged_userns_clone and user.max_user_namespaces)", err}
		}
		return 1, &SetupError{"start in a user namespace", err}
	}
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case <-stop:
		}
	}()
	_ = cmd.Wait()
	close(stop)
	<-ended
	return exitCode(cmd.ProcessState), nil
}
