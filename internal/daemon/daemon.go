package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/vfs"
)

// Options of a daemon. Mountpoint and CacheDir are needed.
type Options struct {
	ID          string
	Mountpoint  string // an existing directory
	Supervisor  string // path of the socket of whoever keeps the session
	CacheDir    string // for sources whose configuration names none
	StateDir    string // of this daemon alone, for what a successor needs of directories; "" = they end with the process
	Quota       int64  // bytes of each cache; 0 = no limit
	NydusLayout bool   // keep nydusd's chunk maps beside the data
	Writable    bool   // mount read-write
	OpenLess    bool   // only images will be mounted: their files need no opening
	Push        bool   // keep the supervisor's state up to date, after each change
	FDStore     bool   // keep it in systemd's file descriptor store
	Resend      bool   // at a take-over, have the kernel ask again for what was under way
	Passthrough string // "auto", "on", "off"
	PullAuth    string // base64 of user:password for registries, before what configurations say
	Transport   fuse.Transport
	FuseOptions []string // of the mount, as after "-o"
	Log         *slog.Logger
	Level       *slog.LevelVar // what SetLevel sets
	Events      *Events        // errors that were logged, or nil
}

// A Daemon serves what it is told under one mount. Its methods may be called
// concurrently.
type Daemon struct {
	opts    Options
	log     *slog.Logger
	machine machine
	opener  opener
	union   *vfs.FS
	started time.Time

	opMu sync.Mutex // serialises what mounts and unmounts

	mu        sync.Mutex
	server    *fuse.Server
	where     string               // the mountpoint, absolute once mounted
	instances map[string]*instance // by path
	handed    bool                 // somebody else holds the session
	gone      bool                 // a successor goes on with all that is mounted
	leaving   map[*instance]bool   // unmounted, and still in use
	session   *fuse.Session        // taken over, until start
	serving   func()               // tells the predecessor of the session
	store     *fdStore             // nil without one; set by Run

	exit     chan struct{} // closed when the process is to end
	exitOnce sync.Once
	reapers  sync.WaitGroup
}

// New returns a daemon in state INIT.
func New(o Options) *Daemon {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Level == nil {
		o.Level = new(slog.LevelVar)
	}
	return &Daemon{
		opts: o, log: o.Log, started: time.Now(), where: o.Mountpoint,
		machine:   machine{state: Init, log: o.Log},
		union:     vfs.New(&vfs.Options{OpenLess: o.OpenLess, Measure: true}),
		instances: map[string]*instance{},
		leaving:   map[*instance]bool{},
		exit:      make(chan struct{}),
		opener: opener{
			cacheDir: o.CacheDir, quota: o.Quota, nydusLayout: o.NydusLayout,
			log: o.Log, passthrough: o.Passthrough, pullAuth: o.PullAuth, stateDir: o.StateDir,
		},
	}
}

// State returns what the daemon is in the middle of.
func (d *Daemon) State() State { return d.machine.current() }

// Exiting is closed when the process is to end.
func (d *Daemon) Exiting() <-chan struct{} { return d.exit }

// Server returns the server, or nil before the mount.
func (d *Daemon) Server() *fuse.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server
}

func (d *Daemon) mountpoint() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.where
}

// fuseOptions are those of the union's mount.
func (d *Daemon) fuseOptions() *fuse.MountOptions {
	o := &fuse.MountOptions{
		FsName: "sluice", Name: "sluice", AllowOther: os.Geteuid() == 0,
		Options:              append([]string{"default_permissions"}, d.opts.FuseOptions...),
		EnableSymlinkCaching: true,
		EnableAcl:            !d.opts.OpenLess,
		MaxBackground:        64,
		Transport:            d.opts.Transport,
		Logger:               slog.NewLogLogger(d.log.Handler(), slog.LevelInfo),
		Debug:                d.opts.Level.Level() < slog.LevelDebug, // each request
	}
	if !d.opts.OpenLess { // there may be files that can be written
		o.ExtraCapabilities = vfs.Capabilities
	}
	if !d.opts.Writable {
		o.Options = append(o.Options, "ro")
	}
	return o
}

// Mount mounts the union: INIT to READY.
func (d *Daemon) Mount(cause string) error {
	return d.machine.do(evMount, cause, func() error {
		point, err := serve.Mountpoint(d.mountpoint())
		if err != nil {
			return err
		}
		server, err := fuse.NewServer(d.union, point, d.fuseOptions())
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.server, d.where = server, point
		d.mu.Unlock()
		return nil
	})
}

// Start begins to serve: READY to RUNNING.
func (d *Daemon) Start(cause string) error {
	if err := d.start(cause); err != nil {
		return err
	}
	d.opMu.Lock()
	defer d.opMu.Unlock()
	d.push(context.Background())
	return nil
}

func (d *Daemon) start(cause string) error {
	return d.machine.do(evStart, cause, func() error {
		d.mu.Lock()
		server, session := d.server, d.session
		d.session = nil
		d.mu.Unlock()
		if session != nil {
			var err error
			if server, err = fuse.Resume(d.union, session, d.fuseOptions()); err != nil {
				return err
			}
			if !session.Crashed {
				d.union.Exact()
			}
			d.mu.Lock()
			d.server = server
			d.mu.Unlock()
		}
		go server.Serve()
		if err := server.WaitMount(); err != nil {
			return err
		}
		d.log.Info("serving", "mountpoint", d.mountpoint(), "transport", server.Transport().String())
		go func() {
			server.Wait()
			d.end("the session is over")
		}()
		for _, i := range d.list() {
			i.start()
		}
		return nil
	})
}

// start begins to fetch ahead.
func (i *instance) start() {
	if i.target.Image != nil {
		i.target.Image.Start()
	}
}

// end has the process end.
func (d *Daemon) end(cause string) {
	d.exitOnce.Do(func() {
		d.log.Info("ending", "cause", cause)
		close(d.exit)
	})
}

// list returns what is mounted, by path.
func (d *Daemon) list() []*instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*instance, 0, len(d.instances))
	for _, i := range d.instances {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *instance) int { return strings.Compare(a.spec.Path, b.spec.Path) })
	return all
}

func (d *Daemon) at(path string) *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.instances[path]
}

// ErrMounted and ErrNotMounted are what mounting and unmounting fail with when
// the path is the reason.
var (
	ErrMounted    = errors.New("something is mounted there")
	ErrNotMounted = errors.New("nothing is mounted there")
)

// Attach mounts what spec names, in any state.
func (d *Daemon) Attach(ctx context.Context, spec Spec) error {
	d.opMu.Lock()
	defer d.opMu.Unlock()
	if d.at(spec.Path) != nil {
		return fmt.Errorf("mount %s: %w", spec.Path, ErrMounted)
	}
	i, err := d.open(ctx, spec)
	if err != nil {
		return err
	}
	i.mount, err = d.union.Attach(spec.Path, i.fuseFS())
	if err != nil {
		return errors.Join(err, i.close())
	}
	d.put(i)
	if err := d.overlay(ctx, i); err != nil {
		return errors.Join(err, d.detach(ctx, spec.Path, vfs.Strict))
	}
	d.push(ctx)
	d.log.Info("mounted", "path", spec.Path, "source", spec.Source, "type", i.kind())
	return nil
}

func (d *Daemon) open(ctx context.Context, spec Spec) (*instance, error) {
	i, err := d.opener.open(ctx, spec)
	if err == nil && d.opts.OpenLess && !i.openLess() {
		err = errors.Join(fmt.Errorf("mount %s: this daemon was started for images only", spec.Path), i.close())
	}
	return i, err
}

// put makes i the one at its path.
func (d *Daemon) put(i *instance) {
	d.mu.Lock()
	d.instances[i.spec.Path] = i
	d.mu.Unlock()
	if d.State() == Running {
		i.start()
	}
}

// Replace mounts what spec names in place of what is there; files that are
// open go on with what they were opened on.
func (d *Daemon) Replace(ctx context.Context, spec Spec) error {
	d.opMu.Lock()
	defer d.opMu.Unlock()
	old := d.at(spec.Path)
	if old == nil {
		return fmt.Errorf("replace %s: %w", spec.Path, ErrNotMounted)
	}
	if spec.Overlay != nil || old.spec.Overlay != nil {
		return fmt.Errorf("replace %s: a mount with an overlay cannot be replaced: unmount it first", spec.Path)
	}
	i, err := d.open(ctx, spec)
	if err != nil {
		return err
	}
	if i.mount, _, err = d.union.Replace(ctx, spec.Path, i.fuseFS(), vfs.Lazy); err != nil {
		return errors.Join(err, i.close())
	}
	d.put(i)
	d.closeLater(old)
	d.push(ctx)
	d.log.Info("replaced", "path", spec.Path, "source", spec.Source, "type", i.kind())
	return nil
}

// Detach unmounts what is at path. Lazily, files that are open go on.
func (d *Daemon) Detach(ctx context.Context, path string, how vfs.How) error {
	d.opMu.Lock()
	defer d.opMu.Unlock()
	return d.detach(ctx, path, how)
}

func (d *Daemon) detach(ctx context.Context, path string, how vfs.How) error {
	i := d.at(path)
	if i == nil {
		return fmt.Errorf("unmount %s: %w", path, ErrNotMounted)
	}
	if err := d.dropOverlay(i, how); err != nil {
		return err
	}
	_, err := d.union.Detach(ctx, path, how)
	d.mu.Lock()
	delete(d.instances, path)
	d.mu.Unlock()
	d.closeLater(i)
	d.push(ctx)
	d.log.Info("unmounted", "path", path)
	return err
}

// closeLater closes i when its file system is used no more.
func (d *Daemon) closeLater(i *instance) {
	d.mu.Lock()
	d.leaving[i] = true
	d.mu.Unlock()
	d.reapers.Add(1)
	go func() {
		defer d.reapers.Done()
		<-i.mount.Done()
		d.mu.Lock()
		delete(d.leaving, i)
		d.mu.Unlock()
		if err := i.close(); err != nil {
			d.log.Warn("close", "path", i.spec.Path, "error", err)
		}
	}()
}

// Exit ends the daemon without unmounting if somebody else holds the session,
// and hands over what is under way; otherwise it unmounts.
func (d *Daemon) Exit(ctx context.Context, cause string) error {
	return d.machine.do(evExit, cause, func() error {
		d.mu.Lock()
		handed, server := d.handed, d.server
		d.mu.Unlock()
		if handed && server != nil {
			d.settle()
			s, err := server.Detach(ctx)
			if err != nil {
				d.log.Error("session was not handed over cleanly", "error", err)
			} else {
				s.Close() // the keeper has its own descriptors
			}
			d.setGone()
			d.end(cause)
			return nil
		}
		err := d.shutdown(ctx)
		d.end(cause)
		return err
	})
}

// Stop unmounts and ends the daemon.
func (d *Daemon) Stop(ctx context.Context, cause string) error {
	return d.machine.do(evStop, cause, func() error {
		err := d.shutdown(ctx)
		d.end(cause)
		return err
	})
}

func (d *Daemon) shutdown(ctx context.Context) error {
	for _, i := range d.list() {
		if err := d.dropOverlay(i, vfs.Lazy); err != nil {
			d.log.Warn("unmount", "path", i.spec.Path, "error", err)
		}
	}
	d.mu.Lock()
	server := d.server
	d.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil && errors.Is(err, ctx.Err()) { // it is unmounted all the same
		d.log.Warn("files were in use to the end: who uses them gets errors from now on")
		return nil
	}
	return err
}

// Close gives back what the daemon holds, once the process is to end. What is
// mounted is closed; a session that was handed over goes on.
func (d *Daemon) Close() error {
	var errs []error
	d.mu.Lock()
	if d.session != nil {
		errs = append(errs, d.session.Close())
	}
	if d.gone {
		for i := range d.leaving {
			i.handedOver()
		}
		for _, i := range d.instances {
			i.handedOver()
		}
	}
	d.mu.Unlock()
	d.union.OnUnmount()
	d.reapers.Wait()
	for _, i := range d.list() {
		errs = append(errs, i.close())
	}
	if d.store != nil && !d.gone {
		if err := d.store.clear(); err != nil {
			d.log.Warn("systemd", "error", err)
		}
	}
	if d.opts.StateDir != "" {
		_ = os.Remove(d.opts.StateDir) // if it is empty
	}
	return errors.Join(errs...)
}

// setGone says that a successor goes on with all that is mounted.
func (d *Daemon) setGone() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
}

// handedOver leaves to a successor what it needs of i.
func (i *instance) handedOver() {
	if i.dir != nil {
		i.dir.HandedOver()
	}
}

// SetLevel sets the log level by its name.
func (d *Daemon) SetLevel(name string) error {
	l, err := ParseLevel(name)
	if err != nil {
		return err
	}
	d.opts.Level.Set(l)
	if s := d.Server(); s != nil {
		s.SetDebug(l < slog.LevelDebug)
	}
	d.log.Info("log level", "level", name)
	return nil
}
