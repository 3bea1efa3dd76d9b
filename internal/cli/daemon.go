package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/daemon"
)

// daemonFlags are the options of "sluice daemon"; those given win over the
// configuration.
type daemonFlags struct {
	config, mountpoint, socket, cacheDir string
	supervisor, id, logLevel, logFile    string
	transport                            string
	upgrade, writable, pprof             bool
	waitTakeOver, push, resume           bool
}

func newDaemonCmd(env *Env) *cobra.Command {
	var f daemonFlags
	cmd := &cobra.Command{
		Use:   "daemon [--config FILE | --mountpoint DIR]",
		Short: "Serve many images and directories under one mount",
		Long: `Mount on a directory and serve there what the configuration says and what the
API is told (see "sluice ctl"). SIGTERM unmounts and ends, SIGHUP reads the
configuration again.

With --upgrade a running daemon on the same socket is replaced: the new one
opens what the old one has mounted, takes its session over and goes on; no
request fails and files stay open.`,
		Example: `  sluice daemon --config /etc/sluice/daemon.toml
  sluice daemon --mountpoint /mnt/images --socket /run/sluice/daemon.sock
  sluice daemon upgrade`,
		Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), env) },
	}
	f.add(cmd.Flags(), env)
	cmd.AddCommand(newDaemonUpgradeCmd(env))
	return cmd
}

func (f *daemonFlags) add(fs *pflag.FlagSet, env *Env) {
	fs.StringVarP(&f.config, "config", "c", "", "configuration, TOML; see docs/operations.md")
	fs.StringVar(&f.mountpoint, "mountpoint", "", "directory to mount on")
	fs.StringVar(&f.socket, "socket", "", "path of the API's unix socket (default "+defaultSocket(env)+")")
	fs.StringVar(&f.cacheDir, "cache-dir", "", "directory for fetched data (default "+defaultCacheDir(env)+")")
	fs.StringVar(&f.supervisor, "supervisor", "", "socket of a supervisor that keeps the session")
	fs.StringVar(&f.id, "id", "", "name of this daemon")
	fs.StringVar(&f.logLevel, "log-level", "", "trace, debug, info, warn or error (default info)")
	fs.StringVar(&f.logFile, "log-file", "", "path of the log (default standard error)")
	fs.StringVar(&f.transport, "transport", "", "device or uring (default uring where it can be had, device under a supervisor)")
	fs.BoolVar(&f.upgrade, "upgrade", false, "take over from the daemon on the same socket")
	fs.BoolVar(&f.waitTakeOver, "wait", false, "wait in state INIT until the API is told to take over from the supervisor")
	fs.BoolVar(&f.writable, "writable", false, "mount read-write")
	fs.BoolVar(&f.pprof, "pprof", false, "serve /debug/pprof on the API's socket")
	fs.BoolVar(&f.push, "push", false, "send the supervisor the state after each change")
	fs.BoolVar(&f.resume, "resume", false, "take over from the supervisor and serve")
	for _, name := range []string{"push", "resume"} {
		_ = fs.MarkHidden(name) // for "sluice supervise"
	}
}

// defaultSocket is where daemons listen, and clients look for them.
func defaultSocket(env *Env) string {
	if s := env.Getenv("SLUICE_SOCKET"); s != "" {
		return s
	}
	if dir := env.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "sluice", "daemon.sock")
	}
	return "/run/sluice/daemon.sock"
}

// settings joins flags and configuration.
func (f *daemonFlags) settings(env *Env) (*daemon.Config, error) {
	c := &daemon.Config{Mountpoint: f.mountpoint}
	if f.config != "" {
		var err error
		if c, err = daemon.LoadConfig(f.config); err != nil {
			return nil, err
		}
	}
	for _, s := range []struct {
		to   *string
		flag string
	}{
		{&c.Mountpoint, f.mountpoint}, {&c.Socket, f.socket}, {&c.CacheDir, f.cacheDir},
		{&c.Supervisor, f.supervisor}, {&c.ID, f.id}, {&c.LogLevel, f.logLevel},
		{&c.LogFile, f.logFile}, {&c.Transport, f.transport},
	} {
		if s.flag != "" {
			*s.to = s.flag
		}
	}
	if c.Mountpoint == "" {
		return nil, usageError{errors.New("--mountpoint or --config is needed")}
	}
	if c.Socket == "" {
		c.Socket = defaultSocket(env)
	}
	if c.CacheDir == "" {
		c.CacheDir = defaultCacheDir(env)
	}
	switch fuse.Transport(c.Transport) {
	case fuse.TransportAuto:
		// Rings can be handed over, but a kill -9 gives callers errors.
		if f.push || c.Supervisor != "" || c.FDStore {
			c.Transport = string(fuse.TransportDevice)
		}
	case fuse.TransportDevice, fuse.TransportURing:
	default:
		return nil, usageError{fmt.Errorf("--transport %q: device or uring", c.Transport)}
	}
	c.Writable = c.Writable || f.writable
	c.Pprof = c.Pprof || f.pprof
	return c, nil
}

func (f *daemonFlags) run(ctx context.Context, env *Env) error {
	c, err := f.settings(env)
	if err != nil {
		return err
	}
	specs, err := c.Specs()
	if err != nil {
		return err
	}
	l, err := daemon.ParseLevel(c.LogLevel)
	if err != nil {
		return usageError{err}
	}
	level := new(slog.LevelVar)
	level.Set(l)
	logs, err := openDaemonLog(env, c.LogFile, int64(c.LogSize), level)
	if err != nil {
		return err
	}
	defer logs.close()
	raiseFileLimit(1 << 20)
	d := daemon.New(daemon.Options{
		ID: c.ID, Mountpoint: c.Mountpoint, Supervisor: c.Supervisor, CacheDir: c.CacheDir, StateDir: stateDir(c.Socket), Quota: int64(c.CacheQuota),
		Writable: c.Writable, OpenLess: c.ImagesOnly, Resend: true, Push: f.push, Transport: fuse.Transport(c.Transport), Passthrough: c.Passthrough, FDStore: c.FDStore, FuseOptions: c.Options,
		Log: slog.New(logs.events), Level: level, Events: logs.events,
	})
	o := daemon.RunOptions{
		Socket: c.Socket, Handler: daemon.HandlerOptions{Version: Version, Pprof: c.Pprof},
		Remote: c.API, Upgrade: f.waitTakeOver, Specs: specs, Getenv: env.Getenv,
		OnLoad: func() error {
			next, err := f.reload(ctx, d, specs, logs)
			if err == nil {
				specs = next
			}
			return err
		},
	}
	o.Resume = f.resume
	if f.upgrade {
		o.From = c.Socket
	}
	return runDaemon(ctx, env, d, o)
}

// reload opens the log anew and mounts what the configuration says now.
func (f *daemonFlags) reload(ctx context.Context, d *daemon.Daemon, old []daemon.Spec, logs *daemonLog) ([]daemon.Spec, error) {
	if err := logs.reopen(); err != nil {
		return nil, err
	}
	if f.config == "" {
		return old, nil
	}
	c, err := daemon.LoadConfig(f.config)
	if err != nil {
		return nil, err
	}
	specs, err := c.Specs()
	if err != nil {
		return nil, err
	}
	if c.LogLevel != "" && f.logLevel == "" {
		if err := d.SetLevel(c.LogLevel); err != nil {
			return nil, err
		}
	}
	return specs, d.Reconcile(ctx, old, specs)
}

func newConfigCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at the daemon's configuration",
		Args:  groupArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "check FILE",
		Short:   "Say whether a configuration is right, and what it mounts",
		Example: "  sluice config check /etc/sluice/daemon.toml",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := daemon.LoadConfig(args[0])
			if err != nil {
				return err
			}
			specs, err := c.Specs()
			if err != nil {
				return err
			}
			rows := [][]string{{"PATH", "TYPE", "SOURCE"}}
			for _, s := range specs {
				rows = append(rows, []string{s.Path, orDash(s.Type), s.Source})
			}
			fmt.Fprintf(env.Stderr, "%s is right: mounts on %s\n", args[0], c.Mountpoint)
			return printTable(env.Stdout, rows)
		},
	})
	return cmd
}

// orDash stands for nothing in a table.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
