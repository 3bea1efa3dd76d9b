package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/vfs"
)

// RunOptions of Run.
type RunOptions struct {
	Socket  string // of the API; "" has none unless systemd gave one
	Handler HandlerOptions
	Remote  *RemoteConfig // the API over TCP besides; may be nil
	Upgrade bool          // wait in INIT for a take-over
	Resume  bool          // take over from the supervisor, at once
	From    string        // socket of a daemon to take over from, at once
	Specs   []Spec        // to mount at first
	Getenv  func(string) string
	Reload  <-chan struct{} // a request to reload, such as SIGHUP
	OnLoad  func() error    // what a reload does
	Stop    time.Duration   // patience with what is in use at the end; 0 means 10 s

	// Ready is called when the API answers; for tests.
	Ready func()
}

// ErrHandedOver is what Run returns to tell a supervisor that the daemon has
// not ended what it served: a successor goes on with it.
var ErrHandedOver = errors.New("handed over to a successor")

// Run runs a daemon until it is told to end, by its API or by ctx, and cleans
// up.
func (d *Daemon) Run(ctx context.Context, o RunOptions) (err error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if o.Resume {
		if err := d.TakeOver(ctx, "restart"); err != nil {
			return err
		}
		if err := d.Start("restart"); err != nil {
			return err
		}
	}
	if d.opts.FDStore {
		if o.Resume, err = d.resumeStored(ctx, o); err != nil {
			return err
		}
	}
	crashed := !d.opts.Push && o.Socket != "" && Stale(o.Socket) && d.opts.Supervisor != ""
	if o.From != "" {
		if err := d.Succeed(ctx, o.From); err != nil {
			return err
		}
	}
	l, err := d.listen(o)
	if err != nil {
		if o.From != "" {
			err = errors.Join(err, d.stop(o, "no API socket"))
		}
		return err
	}
	if l != nil {
		defer l.Close()
		a := ServeAPI(l, d.Handler(o.Handler))
		defer a.Close()
	}
	if o.Remote != nil {
		a, err := d.serveRemote(o)
		if err != nil && (o.From != "" || o.Resume) {
			d.log.Error("no API over TCP", "error", err) // what is mounted counts for more
		} else if err != nil {
			return errors.Join(err, d.stop(o, "no API over TCP"))
		}
		if a != nil {
			defer a.Close()
		}
	}
	if o.Ready != nil {
		o.Ready()
	}
	if o.From != "" || o.Resume {
		d.log.Info("took over", "from", o.From)
	} else if o.Upgrade || crashed {
		d.log.Info("waiting for a take-over", "upgrade", o.Upgrade, "predecessor_died", crashed)
	} else if err := d.begin(ctx, o.Specs); err != nil {
		return errors.Join(err, d.stop(o, "failed to begin"))
	}
	ready := "READY=1"
	if o.From != "" && !d.opts.Push {
		ready += fmt.Sprintf("\nMAINPID=%d", os.Getpid())
	}
	if err := Notify(o.Getenv, ready); err != nil {
		d.log.Warn("systemd", "error", err)
	}
	alive, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		Watchdog(alive, o.Getenv, d.well)
	}()
	defer func() { cancel(); <-watched }()
	return d.wait(ctx, o)
}

// resumeStored goes on with what systemd has kept for a predecessor that died,
// and reports whether there was something.
func (d *Daemon) resumeStored(ctx context.Context, o RunOptions) (bool, error) {
	d.store = &fdStore{getenv: o.Getenv}
	state, files := d.store.stored()
	if o.From != "" || o.Resume {
		return o.Resume, nil
	}
	if state == nil && len(files) > 0 {
		// nobody can serve this session: whoever holds it lets its callers wait
		d.log.Warn("a session without a state was kept: it ends")
		(&fuse.Session{Files: files}).Close()
		return false, d.store.clear()
	}
	if state == nil || len(files) == 0 {
		return false, nil
	}
	err := d.takeOver(ctx, "restart by systemd", func() ([]byte, []int, error) { return state, files, nil })
	if err == nil {
		err = d.Start("restart by systemd")
	}
	if err != nil { // the next start begins anew
		return false, errors.Join(err, d.store.clear())
	}
	return true, nil
}

func (d *Daemon) serveRemote(o RunOptions) (*API, error) {
	l, h, err := o.Remote.Open(d.Handler(o.Handler))
	for wait := time.Millisecond; o.From != "" && errors.Is(err, syscall.EADDRINUSE) && wait < time.Minute; wait *= 2 {
		time.Sleep(wait) // the predecessor is about to end
		l, h, err = o.Remote.Open(d.Handler(o.Handler))
	}
	if err != nil {
		return nil, err
	}
	d.log.Info("API", "address", l.Addr().String())
	return ServeAPI(l, h), nil
}

func (d *Daemon) listen(o RunOptions) (net.Listener, error) {
	given, err := Activated(o.Getenv)
	switch {
	case err != nil:
		return nil, err
	case given != nil:
		return given, nil
	case o.Socket == "":
		return nil, nil
	}
	l, err := Listen(o.Socket)
	for wait := time.Millisecond; o.From == o.Socket && errors.Is(err, ErrRunning) && wait < time.Minute; wait *= 2 {
		time.Sleep(wait) // the predecessor is about to end
		l, err = Listen(o.Socket)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// begin mounts what there is from the start, and serves.
func (d *Daemon) begin(ctx context.Context, specs []Spec) error {
	if err := d.freshState(); err != nil {
		return err
	}
	var overlays []Spec
	for _, s := range specs {
		if s.Overlay != nil { // needs a running mount
			overlays = append(overlays, s)
			continue
		}
		if err := d.Attach(ctx, s); err != nil {
			return err
		}
	}
	if err := d.Mount("start of the daemon"); err != nil {
		return err
	}
	if err := d.Start("start of the daemon"); err != nil {
		return err
	}
	for _, s := range overlays {
		if err := d.Attach(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// freshState removes what a predecessor has left that nobody goes on with.
func (d *Daemon) freshState() error {
	if d.opts.StateDir == "" {
		return nil
	}
	old, err := filepath.Glob(filepath.Join(d.opts.StateDir, "nodes-*"))
	for _, name := range old {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// wait waits for the end.
func (d *Daemon) wait(ctx context.Context, o RunOptions) error {
	for {
		select {
		case <-o.Reload:
			_ = Notify(o.Getenv, "RELOADING=1")
			if o.OnLoad != nil {
				if err := o.OnLoad(); err != nil {
					d.log.Error("reload", "error", err)
				}
			}
			_ = Notify(o.Getenv, "READY=1")
		case <-ctx.Done():
			_ = Notify(o.Getenv, "STOPPING=1")
			return d.stop(o, "signal")
		case <-d.exit:
			d.mu.Lock()
			gone := d.gone
			d.mu.Unlock()
			if gone && d.opts.Push {
				return ErrHandedOver
			}
			if !gone {
				_ = Notify(o.Getenv, "STOPPING=1")
			}
			return nil
		}
	}
}

func (d *Daemon) stop(o RunOptions, cause string) error {
	patience := o.Stop
	if patience <= 0 {
		patience = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := d.Stop(ctx, cause)
	var wrong *StateError
	if errors.As(err, &wrong) {
		return nil // it is over already
	}
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// wellAge is how old a request may become before the daemon thinks that it
// hangs.
const wellAge = 10 * time.Minute

// well reports whether requests get their answers.
func (d *Daemon) well() bool {
	server := d.Server()
	if server == nil {
		return true
	}
	waiting := server.Running()
	return len(waiting) == 0 || waiting[0].Age < wellAge
}

// Reconcile mounts, replaces and unmounts until specs is what is mounted: what
// a reload of the configuration does. What was mounted through the API stays.
func (d *Daemon) Reconcile(ctx context.Context, old, specs []Spec) error {
	var errs []error
	want := map[string]Spec{}
	for _, s := range specs {
		want[s.Path] = s
	}
	for _, s := range old {
		if _, ok := want[s.Path]; !ok && d.at(s.Path) != nil {
			errs = append(errs, d.Detach(ctx, s.Path, vfs.Lazy))
		}
	}
	for _, s := range specs {
		i := d.at(s.Path)
		switch {
		case i == nil:
			errs = append(errs, d.Attach(ctx, s))
		case i.spec.Source != s.Source || i.spec.Config != s.Config || i.spec.Type != s.Type:
			errs = append(errs, d.Replace(ctx, s))
		}
	}
	return errors.Join(errs...)
}
