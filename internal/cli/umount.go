package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/serve"
)

func newUmountCmd(env *Env) *cobra.Command {
	var lazy, all bool
	cmd := &cobra.Command{
		Use:     "umount DIR...",
		Aliases: []string{"unmount"},
		Short:   "End mounts",
		Long: `End mounts of sluice and the processes that serve them. While something on a
mount is open it stays, and who keeps it busy is listed; with --lazy it goes
from sight at once and ends with the last file that is open on it.`,
		Example: "  sluice umount /mnt/python\n  sluice umount --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usageError{fmt.Errorf("--all ends every mount: it goes without %q", args[0])}
			}
			if all {
				return nil
			}
			return needArgs(cobra.MinimumNArgs(1))(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := mounts.Dir(env.Getenv)
			if err != nil {
				return err
			}
			if all {
				entries, err := mounts.List(dir)
				if err != nil {
					return err
				}
				for _, e := range entries {
					args = append(args, e.Mountpoint)
				}
			}
			var errs []error
			for _, point := range args {
				errs = append(errs, umount(cmd.Context(), env, dir, point, lazy))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now, end with the last open file")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all mounts of this user")
	return cmd
}

// umount ends one mount, through its process if that answers.
func umount(ctx context.Context, env *Env, dir, path string, lazy bool) error {
	point, err := mountpointPath(path)
	if err != nil {
		return err
	}
	info, mounted, err := mounts.Lookup(point)
	if err != nil {
		return err
	}
	entry, served, err := mounts.Find(dir, point)
	if err != nil {
		return err
	}
	if !mounted {
		return fmt.Errorf("%s is not a mount point", path)
	}
	if !info.Sluice() {
		return fmt.Errorf("%s is a mount of type %s, not one of sluice's", path, info.Type)
	}
	if served && entry.Mountpoint == point {
		err = serve.Dial(entry).Unmount(ctx, lazy)
	} else {
		err = mounts.Detach(point, lazy || mounts.Dead(point))
	}
	if _, still, lookupErr := mounts.Lookup(point); err != nil && lookupErr == nil && !still {
		err = nil // somebody was quicker: a dead mount is taken away by whoever meets it
	}
	if errors.Is(err, mounts.ErrBusy) {
		fmt.Fprintf(env.Stderr, "%s is busy:\n", path)
		for _, u := range mounts.Users(info) {
			if u.PID != os.Getpid() { // what this process inherited ends with it
				fmt.Fprintf(env.Stderr, "  %s\n", u)
			}
		}
		return fmt.Errorf("%s is busy; end what uses it, or detach it with: sluice umount --lazy %s", path, path)
	}
	if err != nil {
		return err
	}
	if served && !lazy {
		return awaitGone(ctx, dir, point)
	}
	return nil
}

// awaitGone waits until the process that served point has cleaned up, so that
// the directory can be mounted again at once.
func awaitGone(ctx context.Context, dir, point string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		e, ok, err := mounts.Find(dir, point)
		if err != nil || !ok || e.Mountpoint != point {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is unmounted, but its process %d has not ended", point, e.PID)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mountpointPath returns path as the mount table has it. The last element is
// not looked at, since that would ask a mount that may be dead.
func mountpointPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, ok, err := mounts.Lookup(abs); err == nil && ok {
		return abs, nil
	}
	if full, err := filepath.EvalSymlinks(abs); err == nil {
		return full, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}
