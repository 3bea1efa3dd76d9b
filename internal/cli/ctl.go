package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/source"
)

// ctl is what the subcommands of "sluice ctl" share.
type ctl struct {
	connection
	env    *Env
	json   bool
	client *api.Client // from when a command runs
}

func newCtlCmd(env *Env) *cobra.Command {
	c := &ctl{env: env}
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Tell a running daemon what to do",
		Args:  groupArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			c.client, err = c.dial()
			return err
		},
		PersistentPostRun: func(*cobra.Command, []string) { c.client.Close() },
	}
	fs := cmd.PersistentFlags()
	c.add(fs, env)
	fs.BoolVar(&c.json, "json", false, "print JSON")
	cmd.AddCommand(c.info(), c.list(), c.mount(), c.umount(), c.requests(), c.latencies(), c.caches(), c.trim(), c.log(), c.profile(), c.stop())
	return cmd
}

// show prints v as JSON if asked to, and otherwise the table.
func (c *ctl) show(v any, rows [][]string) error {
	if c.json {
		return printJSON(c.env.Stdout, v)
	}
	return printTable(c.env.Stdout, rows)
}

func (c *ctl) info() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Say what the daemon is and does", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl info\n  sluice ctl info --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.client.Daemon(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]string{
				{"version", d.Version}, {"pid", strconv.Itoa(d.PID)}, {"state", d.State}, {"mountpoint", d.Mountpoint},
				{"up", durationText(time.Duration(d.UptimeSeconds * 1e9))}, {"mounts", strconv.Itoa(d.Mounts)},
				{"transport", orDash(d.Transport)}, {"log level", d.LogLevel},
				{"requests", fmt.Sprint(d.Requests)}, {"errors", fmt.Sprint(d.Errors)},
			}
			if d.LogLost > 0 {
				rows = append(rows, []string{"log lines lost", fmt.Sprint(d.LogLost)})
			}
			for _, k := range slices.Sorted(maps.Keys(d.NotUsed)) {
				rows = append(rows, []string{"no " + k, d.NotUsed[k]})
			}
			return c.show(d, rows)
		},
	}
}

func (c *ctl) list() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List what is mounted", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl list\n  sluice ctl --socket https://host:9010 --token-file token --ca ca.pem list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ms, err := c.client.Mounts(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]string{{"PATH", "TYPE", "SOURCE", "OPEN", "READ", "FETCHED"}}
			for _, m := range ms {
				fetched := "-"
				if m.Image != nil {
					fetched = bytesText(m.Image.FetchedBytes)
				}
				rows = append(rows, []string{m.Path, m.Type, m.Source, fmt.Sprint(m.Open), bytesText(int64(m.ReadBytes)), fetched})
			}
			return c.show(ms, rows)
		},
	}
}

func (c *ctl) mount() *cobra.Command {
	var r api.MountRequest
	var config string
	var replace bool
	var overlay api.Overlay
	cmd := &cobra.Command{
		Use: "mount SOURCE PATH", Short: "Mount an image, a directory or an archive in the daemon's mount",
		Example: `  sluice ctl mount docker.io/library/python:3 /python
  sluice ctl mount --type rafs --config nydus.json image.boot /app --replace
  sluice ctl mount ./image.boot /app --upper /var/app/upper --work /var/app/work`,
		Args: needArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			// The daemon's working directory is another, and its files too
			// if it runs elsewhere.
			r.Source = args[0]
			if !c.remote() {
				r.Source = source.Absolute(args[0])
			}
			for _, dir := range []*string{&overlay.Upper, &overlay.Work} {
				if *dir == "" || filepath.IsAbs(*dir) {
					continue
				}
				if c.remote() {
					return usageError{fmt.Errorf("%s: give an absolute path, of the daemon's machine", *dir)}
				}
				abs, err := filepath.Abs(*dir)
				if err != nil {
					return err
				}
				*dir = abs
			}
			if config != "" {
				b, err := os.ReadFile(config)
				if err != nil {
					return err
				}
				r.Config = string(b)
			}
			if overlay != (api.Overlay{}) {
				r.Overlay = &overlay
			}
			return c.client.PutMount(cmd.Context(), args[1], r, replace)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&r.Type, "type", "", "rafs (with --config) or passthrough_fs; found out if not given")
	fs.StringVar(&config, "config", "", "nydus configuration, for type rafs")
	fs.StringSliceVar(&r.PrefetchFiles, "prefetch", nil, "paths to fetch ahead")
	fs.BoolVar(&r.Record, "record", false, "keep what is read, for ctl profile")
	fs.BoolVar(&replace, "replace", false, "in place of what is there")
	fs.StringVar(&overlay.Upper, "upper", "", "make it writable: directory for changes")
	fs.StringVar(&overlay.Work, "work", "", "empty directory beside --upper")
	return cmd
}

func (c *ctl) umount() *cobra.Command {
	var lazy bool
	cmd := &cobra.Command{
		Use: "umount PATH", Short: "Unmount from the daemon's mount", Args: needArgs(cobra.ExactArgs(1)),
		Example: "  sluice ctl umount /python\n  sluice ctl umount --lazy /python",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.client.DeleteMount(cmd.Context(), args[0], lazy)
		},
	}
	cmd.Flags().BoolVar(&lazy, "lazy", false, "files that are open go on")
	return cmd
}

func (c *ctl) requests() *cobra.Command {
	return &cobra.Command{
		Use: "requests", Short: "List requests that wait for an answer", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl requests",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rs, err := c.client.Requests(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]string{{"AGE", "OPERATION", "MOUNT", "PID", "ID"}}
			for _, r := range rs {
				rows = append(rows, []string{durationText(time.Duration(r.AgeNS)), r.Operation, orDash(r.Mount), fmt.Sprint(r.PID), fmt.Sprint(r.ID)})
			}
			return c.show(rs, rows)
		},
	}
}

func (c *ctl) latencies() *cobra.Command {
	return &cobra.Command{
		Use: "latencies", Short: "Say how long requests took", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl latencies",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ls, err := c.client.Latencies(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]string{{"OPERATION", "COUNT", "ERRORS", "MEAN", "P50", "P99"}}
			for _, l := range ls {
				rows = append(rows, []string{
					l.Operation, fmt.Sprint(l.Count), fmt.Sprint(l.Errors), durationText(time.Duration(l.MeanNS)),
					durationText(time.Duration(l.P50NS)), durationText(time.Duration(l.P99NS)),
				})
			}
			return c.show(ls, rows)
		},
	}
}

func (c *ctl) caches() *cobra.Command {
	return &cobra.Command{
		Use: "caches", Short: "List the caches in use", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl caches",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cs, err := c.client.Caches(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]string{{"DIRECTORY", "USED", "HITS", "MISSES", "FETCHED", "EVICTED"}}
			for _, s := range cs {
				rows = append(rows, []string{
					orDash(s.Dir), bytesText(s.UsedBytes), fmt.Sprint(s.Hits), fmt.Sprint(s.Misses),
					bytesText(int64(s.FetchedBytes)), fmt.Sprint(s.Evicted),
				})
			}
			return c.show(cs, rows)
		},
	}
}

func (c *ctl) trim() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "trim SIZE", Short: "Make caches smaller, such as to 10GiB", Args: needArgs(cobra.ExactArgs(1)),
		Example: "  sluice ctl trim 10GiB\n  sluice ctl trim --dir /var/cache/sluice 0",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parseSize(args[0])
			if err != nil {
				return usageError{err}
			}
			t, err := c.client.Trim(cmd.Context(), api.Trim{Dir: dir, Bytes: n})
			if err != nil {
				return err
			}
			return c.show(t, [][]string{{"freed", bytesText(t.FreedBytes)}})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "only the cache in this directory")
	return cmd
}

func (c *ctl) log() *cobra.Command {
	return &cobra.Command{
		Use: "log LEVEL", Short: "Set the log level: trace, debug, info, warn or error", Args: needArgs(cobra.ExactArgs(1)),
		Example: "  sluice ctl log debug",
		RunE:    func(cmd *cobra.Command, args []string) error { return c.client.SetLog(cmd.Context(), args[0]) },
	}
}

func (c *ctl) profile() *cobra.Command {
	return &cobra.Command{
		Use: "profile PATH", Short: "Print what was read of a mount with --record, as a profile", Args: needArgs(cobra.ExactArgs(1)),
		Example: "  sluice ctl profile /python > python.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := c.client.Profile(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = c.env.Stdout.Write(b)
			return err
		},
	}
}

func (c *ctl) stop() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Unmount and end the daemon", Args: needArgs(cobra.NoArgs),
		Example: "  sluice ctl stop",
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.client.Stop(cmd.Context()) },
	}
}
