package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/vfs"
)

// HandOver gives a successor, which listens on a unix socket, what is mounted;
// if final also the session, after the last request has been answered, and
// ends this daemon. Until the successor serves, callers wait.
func (d *Daemon) HandOver(ctx context.Context, to string, final bool) error {
	dialer := net.Dialer{Timeout: supervisorTimeout}
	c, err := dialer.DialContext(ctx, "unix", to)
	if err != nil {
		return fmt.Errorf("successor: %w", err)
	}
	defer c.Close()
	conn := c.(*net.UnixConn)
	if !final {
		return d.sendTo(conn)
	}
	return d.machine.do(evExit, "hand-over", func() error {
		d.opMu.Lock()
		defer d.opMu.Unlock()
		server := d.Server()
		if server == nil {
			return errors.New("nothing is mounted")
		}
		if err := d.transferable(); err != nil {
			return err
		}
		s, err := server.Detach(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		d.mu.Lock()
		d.handed = true
		d.mu.Unlock()
		d.end("handed over")
		return d.send(conn, s)
	})
}

// sendTo sends what is mounted and a snapshot of the session.
func (d *Daemon) sendTo(conn *net.UnixConn) error {
	d.opMu.Lock()
	defer d.opMu.Unlock()
	return d.sendSnapshot(conn)
}

// sendSnapshot is sendTo with opMu held.
func (d *Daemon) sendSnapshot(conn *net.UnixConn) error {
	server := d.Server()
	if d.State() != Running || server == nil {
		return &StateError{d.State(), "sendfd"}
	}
	s, err := server.Snapshot()
	if err != nil {
		return err
	}
	defer s.Close()
	return d.send(conn, s)
}

// send sends what is mounted and a session.
func (d *Daemon) send(conn *net.UnixConn, s *fuse.Session) error {
	if err := d.transferable(); err != nil {
		return err
	}
	saved := savedState{Mountpoint: d.mountpoint(), OpenLess: d.opts.OpenLess, Session: s.State}
	for _, i := range d.list() {
		saved.Specs = append(saved.Specs, i.spec)
	}
	b, err := saved.encode()
	if err != nil {
		return err
	}
	if err := sendWithFD(conn, b, s.Files); err != nil {
		return fmt.Errorf("send state: %w", err)
	}
	d.log.Info("state sent", "bytes", len(b), "mounts", len(saved.Specs))
	return nil
}

// transferable says why a successor could not go on with what is mounted: the
// node ids of an image mean the same in every process, those of others do not.
func (d *Daemon) transferable() error {
	for _, i := range d.list() {
		if _, ok := i.fuseFS().(fuse.Stateful); !ok && !i.openLess() {
			return fmt.Errorf("hand over: %s (%s) has open files and node ids that only this process knows: unmount it first", i.spec.Path, i.kind())
		}
	}
	return nil
}

// Succeed takes over from the daemon that listens on a socket: it opens what
// that has mounted, and then takes the session, so that callers wait for
// moments only. The other daemon ends.
func (d *Daemon) Succeed(ctx context.Context, socket string) error {
	dir, err := os.MkdirTemp("", "sluice-handover-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	old := api.Dial(socket)
	defer old.Close()
	receive := func(final bool) (*fuse.Session, error) {
		return d.receive(ctx, old, l, final)
	}
	err = d.machine.do(evTakeOver, "upgrade", func() error {
		first, err := receive(false)
		if err != nil {
			return err
		}
		first.Close() // only what is mounted counts yet
		last, err := receive(true)
		if err != nil {
			return err
		}
		last.Crashed = false
		d.mu.Lock()
		d.session, d.handed = last, true
		d.mu.Unlock()
		return nil
	})
	if err != nil {
		return fmt.Errorf("take over from %s: %w", socket, err)
	}
	return d.Start("upgrade")
}

// receive asks the predecessor for its state, and mounts the same.
func (d *Daemon) receive(ctx context.Context, old *api.Client, l *net.UnixListener, final bool) (*fuse.Session, error) {
	asked := make(chan error, 1)
	go func() {
		asked <- old.HandOver(ctx, api.HandOver{To: l.Addr().String(), Final: final})
		_ = l.SetDeadline(time.Now().Add(time.Second)) // if it never connected
	}()
	if err := l.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, errors.Join(<-asked, err)
	}
	b, fds, err := receiveWithFD(c)
	c.Close()
	session := &fuse.Session{Files: fds}
	if err = errors.Join(err, <-asked); err == nil {
		err = d.adopt(ctx, b, session)
	}
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return session, nil
}

// drop unmounts what the predecessor has no more.
func (d *Daemon) drop(ctx context.Context, specs []Spec) error {
	keep := map[string]bool{}
	for _, s := range specs {
		keep[s.Path] = true
	}
	for _, i := range d.list() {
		if !keep[i.spec.Path] {
			if err := d.detach(ctx, i.spec.Path, vfs.Strict); err != nil {
				return err
			}
		}
	}
	return nil
}
