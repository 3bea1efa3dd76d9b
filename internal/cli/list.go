package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/serve"
)

func newListCmd(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the running mounts",
		Long: `List the mounts that this user's sluice processes serve, with the way that
requests reach them, their age, and how many requests they have answered.
What killed processes have left behind is cleaned up on the way.`,
		Example: "  sluice list\n  sluice list --json",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := runningMounts(cmd.Context(), env)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(env.Stdout, all)
			}
			rows := [][]string{{"MOUNT POINT", "SOURCE", "TYPE", "TRANSPORT", "PID", "UPTIME", "REQUESTS", "ERRORS"}}
			for _, s := range all {
				rows = append(rows, []string{
					s.Mountpoint, s.Source, s.Type, s.Transport, fmt.Sprint(s.PID),
					(time.Duration(s.UptimeSeconds) * time.Second).String(), fmt.Sprint(s.Requests), fmt.Sprint(s.Errors),
				})
			}
			return printTable(env.Stdout, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// runningMounts asks all running mounts for their statistics. One that does
// not answer within two seconds is listed with what is known of it.
func runningMounts(ctx context.Context, env *Env) ([]*serve.Stats, error) {
	dir, err := mounts.Dir(env.Getenv)
	if err != nil {
		return nil, err
	}
	entries, err := mounts.List(dir)
	if err != nil {
		return nil, err
	}
	all := []*serve.Stats{}
	for _, e := range entries {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := serve.Dial(e).Stats(ctx)
		cancel()
		if err != nil {
			s = &serve.Stats{Entry: e, UptimeSeconds: time.Since(e.Started).Seconds()}
		}
		all = append(all, s)
	}
	return all, nil
}
