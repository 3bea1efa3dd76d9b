package cli

import (
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/daemon"
)

func newSuperviseCmd(env *Env) *cobra.Command {
	var f daemonFlags
	cmd := &cobra.Command{
		Use:   "supervise [flags of sluice daemon]",
		Short: "Run a daemon that survives kill -9",
		Long: `Run "sluice daemon" with the same flags as a child and keep what its successor
needs. If the daemon dies callers wait, another is started and goes on; no
request fails. SIGTERM ends both, SIGHUP is passed on, SIGUSR2 starts a daemon
that takes the place of the one that runs: that is how "sluice daemon upgrade"
upgrades it.`,
		Example: "  sluice supervise --config /etc/sluice/daemon.toml",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.settings(env)
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			surviveClosedOutput()
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			upgrade := make(chan os.Signal, 1)
			signal.Notify(upgrade, syscall.SIGUSR2)
			defer signal.Stop(upgrade)
			path := daemon.SupervisorSocket(c.Socket)
			s := &daemon.Supervisor{
				Path: path, Log: slog.New(slog.NewTextHandler(env.Stderr, nil)), Signals: hup, Upgrade: upgrade,
				Command: func(how daemon.How) *exec.Cmd { return f.child(env, exe, path, how) },
			}
			return s.Run(ctx)
		},
	}
	f.add(cmd.Flags(), env)
	return cmd
}

// child is the daemon with the supervisor's flags.
func (f *daemonFlags) child(env *Env, exe, path string, how daemon.How) *exec.Cmd {
	args := []string{"daemon", "--push", "--supervisor", path}
	for _, a := range []struct{ flag, value string }{
		{"config", f.config}, {"mountpoint", f.mountpoint}, {"socket", f.socket}, {"cache-dir", f.cacheDir},
		{"id", f.id}, {"log-level", f.logLevel}, {"log-file", f.logFile}, {"transport", f.transport},
	} {
		if a.value != "" {
			args = append(args, "--"+a.flag, a.value)
		}
	}
	for _, a := range []struct {
		flag string
		on   bool
	}{{"writable", f.writable}, {"pprof", f.pprof}, {"resume", how == daemon.Resume}, {"upgrade", how == daemon.Replace || f.upgrade && how == daemon.Begin}} {
		if a.on {
			args = append(args, "--"+a.flag)
		}
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = inherited(env.Stdout), env.Stderr
	// The child answers systemd's watchdog in this process' place.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "WATCHDOG_PID=") })
	return cmd
}
