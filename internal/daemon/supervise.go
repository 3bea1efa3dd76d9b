package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A Supervisor runs a daemon as its child and keeps what a successor needs:
// the state that the daemon sends after each change, and the descriptor of the
// session, which keeps the kernel's side alive. When the child dies it starts
// another, which goes on with both.
type Supervisor struct {
	Path string // of the socket that the child sends its state to
	// Command returns the child to start. resume says that it is to fetch the
	// state, take the session over and serve.
	Command func(resume bool) *exec.Cmd
	Log     *slog.Logger
	Signals <-chan os.Signal // passed on to the child; may be nil

	mu    sync.Mutex
	data  []byte
	fds   []int
	fetch bool // the next connection wants the state
}

// Restarts beyond this many in as long a time are given up.
const (
	maxRestarts   = 20
	restartPeriod = time.Minute
)

// Run runs children until one ends by itself, or ctx ends, which ends the
// child with SIGTERM.
func (s *Supervisor) Run(ctx context.Context) error {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	restore := umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Path, Net: "unix"})
	restore()
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve(ownOnly(l))
	}()
	defer func() {
		l.Close()
		<-served
		s.keep(nil, nil)
	}()
	var died []time.Time
	for {
		err := s.child(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		now := time.Now()
		died = append(slices.DeleteFunc(died, func(t time.Time) bool { return now.Sub(t) > restartPeriod }), now)
		if len(died) > maxRestarts {
			return fmt.Errorf("supervisor: the daemon died %d times in a minute, last: %w", len(died), err)
		}
		s.Log.Error("the daemon died", "error", err, "session_kept", s.has())
	}
}

// child runs one child to its end.
func (s *Supervisor) child(ctx context.Context) error {
	resume := s.has()
	s.mu.Lock()
	s.fetch = resume
	s.mu.Unlock()
	cmd := s.Command(resume)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.Log.Info("daemon started", "pid", cmd.Process.Pid, "resume", resume)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stop := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case sig := <-s.Signals:
			_ = cmd.Process.Signal(sig)
		case <-stop:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			stop = nil
		}
	}
}

func (s *Supervisor) has() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fds) > 0
}

// keep replaces what is kept.
func (s *Supervisor) keep(data []byte, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFDs(s.fds)
	s.data, s.fds = data, fds
}

// serve answers the children, one connection at a time.
func (s *Supervisor) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if err := s.exchange(c.(*net.UnixConn)); err != nil {
			s.Log.Error("supervisor", "error", err)
		}
		c.Close()
	}
}

// exchange gives a child the state, if it was started to resume and this is
// its first connection, and otherwise takes the state from it.
func (s *Supervisor) exchange(c *net.UnixConn) error {
	if err := c.SetDeadline(time.Now().Add(supervisorTimeout)); err != nil {
		return err
	}
	s.mu.Lock()
	give, data, fds := s.fetch, s.data, s.fds
	s.fetch = false
	s.mu.Unlock()
	if give {
		return sendWithFD(c, data, fds)
	}
	data, fds, err := receiveWithFD(c)
	if err == nil && len(fds) == 0 {
		err = errors.New("the daemon sent no descriptor")
	}
	if err == nil {
		_, err = decodeState(data)
	}
	if err != nil {
		closeFDs(fds)
		return err
	}
	s.keep(data, fds)
	return nil
}

// SupervisorSocket is where the supervisor of a daemon with that API socket
// listens.
func SupervisorSocket(api string) string {
	return filepath.Join(filepath.Dir(api), filepath.Base(api)+".supervisor")
}

// push sends the supervisor the state as it is now, if the daemon keeps it up
// to date by itself. opMu is held.
func (d *Daemon) push(ctx context.Context) {
	if !d.opts.Push || d.State() != Running {
		return
	}
	conn, err := d.dialSupervisor(ctx)
	if err == nil {
		err = d.sendSnapshot(conn)
		conn.Close()
	}
	if err != nil {
		d.log.Warn("the supervisor does not have the latest state", "error", err)
		return
	}
	d.mu.Lock()
	d.handed = true
	d.mu.Unlock()
}
