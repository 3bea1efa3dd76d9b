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
		d.settle()
		s, err := server.Detach(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		d.mu.Lock()
		d.handed = true
		d.mu.Unlock()
		d.setGone()
		defer d.end("handed over")
		if err := d.send(conn, s); err != nil {
			return err
		}
		// Until the successor has opened them too, files without a name live
		// by the descriptors of this process.
		if err := errors.Join(conn.CloseWrite(), conn.SetReadDeadline(time.Now().Add(supervisorTimeout))); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			d.log.Warn("the successor does not say that it serves", "error", err)
		}
		return nil
	})
}

// settle prepares what is mounted for a successor.
func (d *Daemon) settle() {
	all := d.list()
	d.mu.Lock()
	for i := range d.leaving {
		all = append(all, i)
	}
	d.mu.Unlock()
	for _, i := range all {
		if i.dir != nil {
			i.dir.Settle()
		}
	}
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
	b, err := d.describe(s)
	if err != nil {
		return err
	}
	if err := sendWithFD(conn, b, s.Files); err != nil {
		return fmt.Errorf("send state: %w", err)
	}
	d.log.Info("state sent", "bytes", len(b), "mounts", len(d.list()))
	return nil
}

// describe returns what a successor needs to know.
func (d *Daemon) describe(s *fuse.Session) ([]byte, error) {
	if err := d.transferable(); err != nil {
		return nil, err
	}
	saved := savedState{Mountpoint: d.mountpoint(), OpenLess: d.opts.OpenLess, Session: s.State}
	for _, i := range d.list() {
		saved.Specs = append(saved.Specs, i.spec)
	}
	d.mu.Lock()
	for i := range d.leaving {
		saved.Leaving = append(saved.Leaving, left{i.mount.Slot(), i.spec})
	}
	d.mu.Unlock()
	if d.store != nil {
		saved.Stored = d.store.name
	}
	return saved.encode()
}

// transferable says why a successor could not go on with what is mounted: the
// node ids of images and archives mean the same in every process, those of
// directories have to be kept.
func (d *Daemon) transferable() error {
	for _, i := range d.list() {
		if i.dir == nil {
			continue
		}
		if err := i.dir.Transferable(); err != nil {
			return fmt.Errorf("hand over: %s has open files and node ids that only this process knows (%w): unmount it first", i.spec.Path, err)
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
	err = d.machine.do(evTakeOver, "upgrade", func() error {
		first, err := d.receive(ctx, old, l, false)
		if err != nil {
			return err
		}
		first.close() // only what is mounted counts yet
		last, err := d.receive(ctx, old, l, true)
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.session, d.handed, d.serving = last.session, true, last.close
		d.mu.Unlock()
		return nil
	})
	if err != nil {
		return fmt.Errorf("take over from %s: %w", socket, err)
	}
	err = d.Start("upgrade")
	d.serving()
	return err
}

// received is what came from a predecessor.
type received struct {
	session *fuse.Session
	conn    *net.UnixConn
	final   bool
	asked   chan error // what its API said
}

// close ends the exchange. The final one tells the predecessor that it may end.
func (r *received) close() {
	if r.final {
		_, _ = r.conn.Write([]byte{1})
	} else {
		r.session.Close()
	}
	r.conn.Close()
	<-r.asked
}

// receive asks the predecessor for its state, and mounts the same.
func (d *Daemon) receive(ctx context.Context, old *api.Client, l *net.UnixListener, final bool) (*received, error) {
	r := &received{final: final, asked: make(chan error, 1), session: &fuse.Session{}}
	go func() {
		err := old.HandOver(ctx, api.HandOver{To: l.Addr().String(), Final: final})
		r.asked <- err
		if err != nil {
			_ = l.SetDeadline(time.Now().Add(time.Second)) // if it never connected
		}
	}()
	if err := l.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	var err error
	if r.conn, err = l.AcceptUnix(); err != nil {
		return nil, errors.Join(<-r.asked, err)
	}
	b, fds, err := receiveWithFD(r.conn)
	r.session.Files = fds
	if err == nil && len(b) == 0 { // it closed without a word: the API says why
		if err = <-r.asked; err == nil {
			err = errors.New("the predecessor sent nothing")
		}
	}
	if err == nil {
		err = d.adopt(ctx, b, r.session, final)
	}
	if err != nil {
		r.conn.Close()
		return nil, errors.Join(err, r.session.Close())
	}
	return r, nil
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
