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
	// Command returns the child to start.
	Command func(How) *exec.Cmd
	Log     *slog.Logger
	Signals <-chan os.Signal // passed on to the child; may be nil
	Upgrade <-chan os.Signal // have another child take over; may be nil

	mu    sync.Mutex
	data  []byte
	fds   []int
	fetch bool // the next connection wants the state
}

// How says how a child is to begin.
type How int

const (
	Begin   How = iota // mount
	Resume             // fetch the state, take over the session of a child that died, and serve
	Replace            // take over from the child that runs
)

// Restarts beyond this many in as long a time are given up.
const (
	maxRestarts   = 60
	restartPeriod = time.Minute
)

// Run runs children until one ends by itself, or ctx ends, which ends the
// child with SIGTERM.
func (s *Supervisor) Run(ctx context.Context) error {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	l, err := bind(s.Path)
	if err != nil {
		return fmt.Errorf("supervisor: socket %s: %w", s.Path, err)
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
	return s.children(ctx)
}

// process is a daemon that was started.
type process struct {
	cmd  *exec.Cmd
	done chan error
}

func (s *Supervisor) start(how How) (*process, error) {
	s.mu.Lock()
	s.fetch = how == Resume
	s.mu.Unlock()
	c := &process{cmd: s.Command(how), done: make(chan error, 1)}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	s.Log.Info("daemon started", "pid", c.cmd.Process.Pid, "resume", how == Resume, "upgrade", how == Replace)
	go func() { c.done <- c.cmd.Wait() }()
	return c, nil
}

// children runs one child after another.
func (s *Supervisor) children(ctx context.Context) error {
	now, err := s.start(Begin)
	if err != nil {
		return err
	}
	var next *process         // is to take over from now
	var nextDone <-chan error // of next
	var died []time.Time
	stop := ctx.Done()
	for {
		select {
		case sig := <-s.Signals:
			_ = now.cmd.Process.Signal(sig)
		case <-s.Upgrade:
			if next != nil {
				s.Log.Warn("an upgrade is under way")
				continue
			}
			if next, err = s.start(Replace); err != nil {
				s.Log.Error("upgrade", "error", err)
				next = nil
				continue
			}
			nextDone = next.done
		case <-stop:
			stop = nil
			_ = now.cmd.Process.Signal(syscall.SIGTERM)
			if next != nil {
				_ = next.cmd.Process.Signal(syscall.SIGTERM)
			}
		case err := <-nextDone:
			s.Log.Error("upgrade failed", "error", err)
			next, nextDone = nil, nil
		case err := <-now.done:
			switch {
			case next != nil: // it has taken over, or dies as well
				now, next, nextDone = next, nil, nil
				continue
			case err == nil || ctx.Err() != nil:
				return err
			}
			died = append(slices.DeleteFunc(died, func(t time.Time) bool { return time.Since(t) > restartPeriod }), time.Now())
			if len(died) > maxRestarts {
				return fmt.Errorf("supervisor: the daemon died %d times in a minute, last: %w", len(died), err)
			}
			s.Log.Error("the daemon died", "error", err, "session_kept", s.has())
			how := Begin
			if s.has() {
				how = Resume
			}
			if now, err = s.start(how); err != nil {
				return err
			}
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

// keep puts a snapshot into systemd's store. opMu is held.
func (d *Daemon) keep() error {
	if d.store == nil {
		return nil
	}
	s, err := d.Server().Snapshot()
	if err != nil {
		return err
	}
	defer s.Close()
	b, err := d.describe(s)
	if err != nil {
		return err
	}
	return d.store.keep(b, s.Files)
}

// push sends the supervisor the state as it is now, if the daemon keeps it up
// to date by itself. opMu is held.
func (d *Daemon) push(ctx context.Context) {
	if !d.opts.Push && d.store == nil || d.State() != Running {
		return
	}
	err := d.keep()
	if d.opts.Push && err == nil {
		var conn *net.UnixConn
		if conn, err = d.dialSupervisor(ctx); err == nil {
			err = d.sendSnapshot(conn)
			conn.Close()
		}
	}
	if err != nil {
		d.log.Warn("a successor will not have the latest state", "error", err)
		return
	}
	d.mu.Lock()
	d.handed = true
	d.mu.Unlock()
}
