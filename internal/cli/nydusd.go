package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/daemon"
)

// nydusdFlags are the options of nydusd.
type nydusdFlags struct {
	apisock, config, id, supervisor string
	logLevel, logFile               string
	logRotation                     int64
	rlimit                          uint64
	upgrade                         bool

	mountpoint, failover, bootstrap string
	localfsDir, sharedDir, prefetch string
	virtual                         string
	threads                         int
	writable                        bool
	sock, backendSource             string
	fscache, fscacheTag             string
	fscacheThreads                  int
	hybrid                          bool
}

// newNydusdCmd returns the program as "nydusd".
func newNydusdCmd(env *Env) *cobra.Command {
	var f nydusdFlags
	cmd := &cobra.Command{
		Use:     "nydusd",
		Short:   "Serve RAFS images, with the command line and the API of nydusd",
		Version: Version,
		Args:    needArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), env) },
	}
	cmd.SetVersionTemplate("Version: \tsluice {{.Version}}\nGit Commit: \t" + revision() + "\n")
	f.global(cmd.PersistentFlags())
	f.fuse(cmd.Flags())
	f.fs(cmd.Flags())
	fuse := &cobra.Command{
		Use: "fuse", Short: "Serve by FUSE", Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), env) },
	}
	f.fuse(fuse.Flags())
	f.fs(fuse.Flags())
	singleton := &cobra.Command{
		Use: "singleton", Short: "Serve what the API says", Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.singleton(cmd.Context(), env) },
	}
	singleton.Flags().StringVarP(&f.fscache, "fscache", "F", "", "working directory of fscache")
	singleton.Flags().StringVar(&f.fscacheTag, "fscache-tag", "", "tag of fscache")
	singleton.Flags().IntVar(&f.fscacheThreads, "fscache-threads", 4, "threads of fscache")
	virtiofs := &cobra.Command{
		Use: "virtiofs", Short: "Serve a virtual machine", Args: needArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return errors.New("virtiofs is not supported by this build: use fuse")
		},
	}
	virtiofs.Flags().StringVar(&f.sock, "sock", "", "vhost-user socket")
	virtiofs.Flags().BoolVar(&f.hybrid, "hybrid-mode", false, "images and directories together")
	f.fs(virtiofs.Flags())
	cmd.AddCommand(fuse, singleton, virtiofs)
	return cmd
}

func (f *nydusdFlags) global(fs *pflag.FlagSet) {
	fs.StringVarP(&f.apisock, "apisock", "A", "", "path of the API's unix socket")
	fs.StringVarP(&f.config, "config", "C", "", "path of the configuration: v1 JSON, v2 TOML or JSON")
	fs.StringVar(&f.id, "id", "", "name of this daemon, for the supervisor")
	fs.StringVar(&f.supervisor, "supervisor", "", "path of the supervisor's unix socket")
	fs.BoolVar(&f.upgrade, "upgrade", false, "wait to take over from another daemon")
	fs.StringVarP(&f.logLevel, "log-level", "l", "info", "trace, debug, info, warn or error")
	fs.StringVarP(&f.logFile, "log-file", "L", "", "path of the log; standard error if not given")
	fs.Int64Var(&f.logRotation, "log-rotation-size", 0, "set the log aside at so many MB; 0 = never")
	fs.Uint64Var(&f.rlimit, "rlimit-nofile", 1_000_000, "limit of open files; 0 = as it is")
	fs.StringVar(&f.backendSource, "backend-source", "", "URL of a backend configuration (not used: the configuration file counts)")
}

func (f *nydusdFlags) fuse(fs *pflag.FlagSet) {
	fs.StringVarP(&f.mountpoint, "mountpoint", "M", "", "directory to mount on")
	fs.StringVar(&f.failover, "failover-policy", "resend", "after a take-over of a dead daemon's session: none or resend")
	fs.IntVar(&f.threads, "fuse-threads", 4, "threads (the number adapts by itself)")
	fs.IntVar(&f.threads, "thread-num", 4, "same as --fuse-threads")
	fs.BoolVar(&f.writable, "writable", false, "mount read-write")
}

func (f *nydusdFlags) fs(fs *pflag.FlagSet) {
	fs.StringVarP(&f.bootstrap, "bootstrap", "B", "", "path of the image's bootstrap")
	fs.StringVarP(&f.localfsDir, "localfs-dir", "D", "", "directory with the image's blobs, also for the cache")
	fs.StringVarP(&f.sharedDir, "shared-dir", "s", "", "directory to pass through")
	fs.StringVar(&f.prefetch, "prefetch-files", "", "file with a list of paths to fetch ahead")
	fs.StringVarP(&f.virtual, "virtual-mountpoint", "m", "/", "where in the mount the image or directory is")
}

func (f *nydusdFlags) check() error {
	switch {
	case f.mountpoint == "" && !f.upgrade:
		return usageError{errors.New("--mountpoint is needed")}
	case f.bootstrap != "" && f.sharedDir != "":
		return usageError{errors.New("--bootstrap and --shared-dir exclude each other")}
	case f.localfsDir != "" && f.config != "":
		return usageError{errors.New("--localfs-dir and --config exclude each other")}
	case f.supervisor != "" && f.id == "":
		return usageError{errors.New("--supervisor needs --id")}
	case f.threads < 1 || f.threads > 1024:
		return usageError{errors.New("--fuse-threads: 1 to 1024")}
	}
	switch f.failover {
	case "none", "resend":
	case "flush":
		return usageError{errors.New("--failover-policy flush needs a patched kernel: use resend or none")}
	default:
		return usageError{fmt.Errorf("--failover-policy %q: resend or none", f.failover)}
	}
	return nil
}

// specs are what the command line says to mount.
func (f *nydusdFlags) specs(env *Env) ([]daemon.Spec, error) {
	spec := daemon.Spec{Path: f.virtual}
	switch {
	case f.sharedDir != "":
		spec.Type, spec.Source = daemon.TypePassthrough, f.sharedDir
		return []daemon.Spec{spec}, nil
	case f.bootstrap == "":
		return nil, nil
	}
	spec.Type, spec.Source = daemon.TypeRAFS, f.bootstrap
	switch {
	case f.localfsDir != "":
		spec.Config = daemon.LocalConfig(f.localfsDir)
	case f.config != "":
		b, err := os.ReadFile(f.config)
		if err != nil {
			return nil, err
		}
		spec.Config = string(b)
	default:
		return nil, usageError{errors.New("--bootstrap needs --config or --localfs-dir")}
	}
	if f.prefetch != "" {
		b, err := os.ReadFile(f.prefetch)
		if err != nil {
			return nil, fmt.Errorf("--prefetch-files: %w", err)
		}
		lines := bufio.NewScanner(strings.NewReader(string(b)))
		for lines.Scan() {
			if l := strings.TrimSpace(lines.Text()); l != "" {
				spec.Prefetch = append(spec.Prefetch, l)
			}
		}
	}
	return []daemon.Spec{spec}, nil
}

func (f *nydusdFlags) run(ctx context.Context, env *Env) error {
	if err := f.check(); err != nil {
		return err
	}
	specs, err := f.specs(env)
	if err != nil {
		return err
	}
	return f.serve(ctx, env, specs)
}

// singleton serves what the API says; fscache is no more.
func (f *nydusdFlags) singleton(ctx context.Context, env *Env) error {
	if f.fscache != "" {
		return errors.New("fscache is not supported: the kernel has no on-demand fscache any more; use the FUSE driver (fs_driver = \"fusedev\")")
	}
	return errors.New("singleton without fscache has nothing to serve: use fuse")
}

func (f *nydusdFlags) serve(ctx context.Context, env *Env, specs []daemon.Spec) error {
	level := new(slog.LevelVar)
	l, err := daemon.ParseLevel(f.logLevel)
	if err != nil {
		return usageError{err}
	}
	level.Set(l)
	logs, err := openDaemonLog(env, f.logFile, f.logRotation<<20, level)
	if err != nil {
		return err
	}
	defer logs.close()
	raiseFileLimit(f.rlimit)
	transport := fuse.TransportAuto
	if f.supervisor != "" {
		transport = fuse.TransportDevice // what can be handed over by one descriptor
	}
	d := daemon.New(daemon.Options{
		Transport: transport, ID: f.id, Mountpoint: f.mountpoint, Supervisor: f.supervisor, Writable: f.writable || f.sharedDir != "",
		OpenLess: f.sharedDir == "", Resend: f.failover == "resend", NydusLayout: true,
		CacheDir: f.localfsDir, StateDir: stateDir(f.apisock), PullAuth: env.Getenv("IMAGE_PULL_AUTH"), Log: slog.New(logs.events), Level: level, Events: logs.events,
	})
	return runDaemon(ctx, env, d, daemon.RunOptions{
		Socket: f.apisock, Handler: daemon.HandlerOptions{Version: Version, Revision: revision()},
		Upgrade: f.upgrade, Specs: specs, Getenv: env.Getenv, OnLoad: logs.reopen,
	})
}

// stateDir is where a daemon with that API socket keeps the state of
// directories.
func stateDir(socket string) string {
	if socket == "" {
		return ""
	}
	return socket + ".state"
}

// daemonLog is where a daemon's words go.
type daemonLog struct {
	file   *daemon.LogFile // nil: standard error
	queue  *daemon.LogQueue
	events *daemon.Events
}

func openDaemonLog(env *Env, path string, maxBytes int64, level *slog.LevelVar) (*daemonLog, error) {
	l := &daemonLog{}
	out := env.Stderr
	if path != "" {
		file, err := daemon.OpenLog(path, maxBytes)
		if err != nil {
			return nil, err
		}
		l.file, out = file, file
	}
	l.queue = daemon.NewLogQueue(out)
	l.events = daemon.LogTo(l.queue, level)
	return l, nil
}

func (l *daemonLog) reopen() error {
	if l.file == nil {
		return nil
	}
	return l.queue.Do(l.file.Reopen)
}

func (l *daemonLog) close() {
	// What is stuck keeps its file: the process ends.
	if err := l.queue.Close(); err == nil && l.file != nil {
		l.file.Close()
	}
}

// runDaemon runs d until it ends or a signal comes; SIGHUP reloads.
func runDaemon(ctx context.Context, env *Env, d *daemon.Daemon, o daemon.RunOptions) error {
	surviveClosedOutput()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{})
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-hup:
				select {
				case reload <- struct{}{}:
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	o.Reload = reload
	return d.Run(ctx, o)
}
