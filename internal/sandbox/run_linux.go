package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/mounts"
)

// Run runs the command of c to its end. When ctx ends it is killed, and with
// it all it has started, since it is the first process of its namespace.
func Run(ctx context.Context, c Config, s Streams) (Result, error) {
	// Pdeathsig is about the thread that forks, not the process: it must live
	// as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The child mounts on it, in its own namespace; here only its lock is in it,
	// by which the next run knows whether we were killed.
	base, err := mounts.NewScratch("sluice-root-")
	if err != nil {
		return Result{}, &SetupError{"directory for the root", err}
	}
	defer base.Remove()
	c.Base, c.Terminal = base.Path, s.Terminal
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
	cmd.Env = []string{"GOMAXPROCS=1"} // the command may read it, and has no business with our secrets
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	cmd.Stdout, cmd.Stderr = firstByte{&once, note, s.Stdout}, firstByte{&once, note, s.Stderr}
	cmd.ExtraFiles = []*os.File{confR, failW}
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = outputDelay
	if s.Terminal {
		tty, err := newConsole(s.Stdin)
		if err != nil {
			return Result{}, &SetupError{"terminal", err}
		}
		defer tty.close()
		cmd.Stdin = nil // the terminal is all that the command has
		cmd.ExtraFiles = append(cmd.ExtraFiles, tty.child)
		go tty.serve(cmd.Stdout)
	}
	if err := cmd.Start(); err != nil {
		return Result{}, &SetupError{"start in new namespaces", err}
	}
	defer passOn(s.Signals, cmd.Process)()
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

// outputDelay is how long output is waited for once the command has ended.
const outputDelay = 5 * time.Second

// Forwarded are the signals that can be passed on to a command.
var Forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT,
	syscall.SIGALRM, syscall.SIGVTALRM,
}

// FromTerminal are the signals that a terminal sends to all processes in front
// of it, so that a command gets them by itself; none if in is no terminal.
func FromTerminal(in *os.File) []os.Signal {
	if !IsTerminal(in) {
		return nil
	}
	return []os.Signal{syscall.SIGINT, syscall.SIGQUIT}
}

// ForwardedFrom are the signals to pass on to a command that shares the
// terminal in with this process, if that is one.
func ForwardedFrom(in *os.File) []os.Signal {
	return slices.DeleteFunc(slices.Clone(Forwarded), func(s os.Signal) bool {
		return slices.Contains(FromTerminal(in), s)
	})
}

// passOn sends what comes on signals to p, until the function that it returns
// is called.
func passOn(signals <-chan os.Signal, p *os.Process) func() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-signals:
				_ = p.Signal(s)
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
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
// variable name is set to "1" there. The namespace has further users where the
// machine lets this user have them; why it has none is told to alone, which
// may be nil for a program that needs none.
func AsRoot(ctx context.Context, args []string, name string, alone func(why error)) (int, error) {
	runtime.LockOSThread() // as in Run
	defer runtime.UnlockOSThread()
	cmd, ended, err := startAsRoot(args, name, alone)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
			return 1, &SetupError{"user namespaces are not allowed here (as root it works without; see the sysctls kernel.unprivileged_userns_clone and user.max_user_namespaces)", err}
		}
		return 1, &SetupError{"start in a user namespace", err}
	}
	defer ended()
	// What ends this process is for the other one to decide: it has the mount.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, ForwardedFrom(os.Stdin)...)
	defer signal.Stop(signals)
	if both := FromTerminal(os.Stdin); len(both) > 0 {
		signal.Notify(make(chan os.Signal, 1), both...) // it gets them from the terminal
	}
	defer passOn(signals, cmd.Process)()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	_ = cmd.Wait()
	stop()
	return exitCode(cmd.ProcessState), nil
}

// startAsRoot starts the process of AsRoot, with all users that it can have.
// ended is to be called after the end of the process.
func startAsRoot(args []string, name string, alone func(why error)) (cmd *exec.Cmd, ended func(), err error) {
	fresh := func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = args
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), name+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
		return cmd
	}
	if alone != nil {
		d, err := delegated()
		if err == nil {
			cmd = fresh()
			ended, err = d.enter(cmd)
		}
		if err == nil {
			return cmd, ended, nil
		}
		alone(err)
	}
	cmd = fresh()
	rootInUserNamespace(cmd.SysProcAttr)
	return cmd, func() {}, cmd.Start()
}
