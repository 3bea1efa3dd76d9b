package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/serve"
)

func newStatsCmd(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats DIR",
		Short: "Say what a mount has done",
		Long: `Say how much of an image has been fetched, how that compares with what was
read, which reads took longest, and how many requests of each kind there were.`,
		Example: "  sluice stats /mnt/python\n  sluice stats --json /mnt/python",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := dialMount(env, args[0])
			if err != nil {
				return err
			}
			s, err := client.Stats(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(env.Stdout, s)
			}
			return printStats(env.Stdout, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// dialMount finds the running mount that path is, or lies in, and returns a
// client of it and path from its root.
func dialMount(env *Env, path string) (*serve.Client, string, error) {
	dir, err := mounts.Dir(env.Getenv)
	if err != nil {
		return nil, "", err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	e, ok, err := mounts.Find(dir, abs)
	if err == nil && !ok {
		if full, linkErr := mountpointPath(path); linkErr == nil {
			abs = full
			e, ok, err = mounts.Find(dir, abs)
		}
	}
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return nil, "", fmt.Errorf("%s is not on a mount that this user's sluice serves (see: sluice list)", path)
	}
	rel, err := filepath.Rel(e.Mountpoint, abs)
	if err != nil {
		return nil, "", err
	}
	return serve.Dial(e), rel, nil
}

func printStats(w io.Writer, s *serve.Stats) error {
	rows := [][]string{
		{"mount point", s.Mountpoint},
		{"source", s.Source},
		{"type", s.Type},
		{"transport", s.Transport},
		{"process", fmt.Sprint(s.PID)},
		{"uptime", (time.Duration(s.UptimeSeconds*1000) * time.Millisecond).Round(time.Second).String()},
		{"requests", fmt.Sprintf("%d (%d errors)", s.Requests, s.Errors)},
	}
	if i := s.Image; i != nil {
		rows = append(rows, imageRows(i)...)
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	if len(s.Operations) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"OPERATION", "REQUESTS", "ERRORS", "MEDIAN", "99 %"}}
		for _, o := range s.Operations {
			rows = append(rows, []string{o.Name, fmt.Sprint(o.Count), fmt.Sprint(o.Errors), durationText(o.P50), durationText(o.P99)})
		}
		if err := printTable(w, rows); err != nil {
			return err
		}
	}
	if s.Image == nil || len(s.Image.SlowReads) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	slow := [][]string{{"SLOW READS", "OFFSET", "LENGTH", "TOOK"}}
	for _, r := range s.Image.SlowReads {
		slow = append(slow, []string{r.Path, fmt.Sprint(r.Offset), bytesText(r.Length), durationText(r.Duration)})
	}
	return printTable(w, slow)
}

func imageRows(i *serve.ImageStats) [][]string {
	share := ""
	if i.StoredBytes > 0 {
		share = fmt.Sprintf(" of %s (%.1f %%)", bytesText(i.StoredBytes), 100*float64(i.FetchedBytes)/float64(i.StoredBytes))
	}
	rows := [][]string{
		{"image", fmt.Sprintf("%s, %d inodes, %s of metadata", i.Format, i.Inodes, bytesText(i.MetadataBytes))},
		{"digest", i.Digest},
		{"fetched", bytesText(i.FetchedBytes) + share + fmt.Sprintf(" in %d requests", i.FetchedRequests)},
		{"touched", bytesText(i.TouchedBytes) + " of chunks"},
		{"amplification", fmt.Sprintf("%.2f", i.Amplification)},
		{"reads", fmt.Sprintf("%d (%s), %.1f %% without waiting", i.ReadRequests, bytesText(i.ReadBytes), 100*i.HitRate)},
		{"prefetch", fmt.Sprintf("%s, %s fetched ahead", i.PrefetchState, bytesText(i.PrefetchBytes))},
	}
	if i.Passthrough != "" {
		rows = append(rows, []string{"passthrough", fmt.Sprintf("%s, %d opens, %d whole files made (%s)", i.Passthrough, i.PassthroughOpens, i.WholeFiles, bytesText(i.WholeBytes))})
	}
	return rows
}
