package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/api"
)

func newDaemonUpgradeCmd(env *Env) *cobra.Command {
	var socket string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running daemon by this program",
		Long: `Start this program with the command line of the daemon that runs on the
socket, have it take over all that is mounted, and wait until it serves. No
request fails and files stay open. A daemon under "sluice supervise" is replaced
by its supervisor, with the program that the supervisor was started from.`,
		Example: "  sluice daemon upgrade\n  sluice daemon upgrade --socket /run/sluice/daemon.sock",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithTimeout(cmd.Context(), wait)
			defer stop()
			pid, err := upgradeDaemon(ctx, env, socket)
			if err != nil {
				return fmt.Errorf("upgrade: %w", err)
			}
			fmt.Fprintf(env.Stderr, "the daemon is process %d now\n", pid)
			return nil
		},
	}
	cmd.Flags().StringVarP(&socket, "socket", "S", defaultSocket(env), "the daemon's API socket")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long the new daemon may take")
	return cmd
}

// upgradeDaemon returns the process of the new daemon.
func upgradeDaemon(ctx context.Context, env *Env, socket string) (pid int, err error) {
	client := api.Dial(socket)
	defer client.Close()
	old, err := client.Daemon(ctx)
	if err != nil {
		return 0, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(old.PID))
	b, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return 0, fmt.Errorf("command line of process %d: %w", old.PID, err)
	}
	args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	ended := make(chan error, 1)
	if slices.Contains(args, "--push") {
		err = askSupervisor(proc)
	} else {
		err = startSuccessor(proc, socket, args, ended)
	}
	if err != nil {
		return 0, err
	}
	for {
		if now, err := client.Daemon(ctx); err == nil && now.PID != old.PID && now.State == "RUNNING" {
			return now.PID, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("no new daemon answers in time: see its log")
		case err := <-ended:
			return 0, fmt.Errorf("the new daemon ended: %w: see its log", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startSuccessor starts this program as the daemon that proc is, to take over
// from it. It writes where that one writes.
func startSuccessor(proc, socket string, args []string, ended chan<- error) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(proc, "fd", "2"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil { // a socket, or a terminal that is gone
		if log, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
			return err
		}
	}
	defer log.Close()
	args = slices.DeleteFunc(args[1:], func(a string) bool { return a == "--upgrade" })
	if socket, err = filepath.Abs(socket); err != nil {
		return err
	}
	cmd := exec.Command(exe, append(args, "--upgrade", "--socket", socket)...)
	cmd.Dir, _ = os.Readlink(filepath.Join(proc, "cwd"))
	cmd.Stdout, cmd.Stderr = log, log
	if b, err := os.ReadFile(filepath.Join(proc, "environ")); err == nil { // NOTIFY_SOCKET among others
		cmd.Env = strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { ended <- cmd.Wait() }()
	return nil
}

// askSupervisor has the parent of the process proc start a successor.
func askSupervisor(proc string) error {
	b, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		text, ok := strings.CutPrefix(line, "PPid:")
		if !ok {
			continue
		}
		parent, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || parent <= 1 {
			return errors.New("the daemon's supervisor is gone")
		}
		return syscall.Kill(parent, syscall.SIGUSR2)
	}
	return errors.New("the daemon's supervisor is not known")
}
