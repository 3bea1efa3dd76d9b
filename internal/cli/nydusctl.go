package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/api"
)

// nydusctl is what the subcommands of "nydusctl" share.
type nydusctl struct {
	env  *Env
	sock string
	raw  bool
}

// newNydusctlCmd returns the program as "nydusctl".
func newNydusctlCmd(env *Env) *cobra.Command {
	c := &nydusctl{env: env}
	cmd := &cobra.Command{
		Use:     "nydusctl",
		Short:   "Ask and tell a daemon, with the command line of nydusctl",
		Version: Version,
		Args:    groupArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	fs := cmd.PersistentFlags()
	fs.StringVarP(&c.sock, "sock", "S", "", "the daemon's API socket (required)")
	fs.BoolVarP(&c.raw, "raw", "r", false, "print the answer as it is")
	cmd.AddCommand(c.info(), c.set(), c.metrics(), c.mount(), c.umount())
	return cmd
}

func (c *nydusctl) do(ctx context.Context, method, path string, in any) ([]byte, error) {
	if c.sock == "" {
		return nil, usageError{errors.New("--sock is needed")}
	}
	client := api.Dial(c.sock)
	defer client.Close()
	var b []byte
	err := client.Do(ctx, method, path, in, &b)
	return b, err
}

// show asks and prints.
func (c *nydusctl) show(ctx context.Context, path string) error {
	b, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if c.raw {
		_, err = c.env.Stdout.Write(b)
		return err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return printJSON(c.env.Stdout, v)
}

func (c *nydusctl) info() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Say what the daemon is", Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.show(cmd.Context(), "/api/v1/daemon") },
	}
}

func (c *nydusctl) set() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Set log-level", Args: needArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "log-level" && args[0] != "log_level" {
				return usageError{fmt.Errorf("%s cannot be set: log-level can", args[0])}
			}
			_, err := c.do(cmd.Context(), http.MethodPut, "/api/v1/daemon", map[string]string{"log_level": args[1]})
			return err
		},
	}
}

// nydusMetrics are what "nydusctl metrics" takes.
var nydusMetrics = map[string]string{
	"backend": "/api/v1/metrics/backend", "cache": "/api/v1/metrics/blobcache", "fsstats": "/api/v1/metrics",
}

func (c *nydusctl) metrics() *cobra.Command {
	var interval int
	cmd := &cobra.Command{
		Use: "metrics backend|cache|fsstats", Short: "Print counters", Args: needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := nydusMetrics[args[0]]
			if path == "" {
				return usageError{fmt.Errorf("%s: backend, cache or fsstats", args[0])}
			}
			for {
				if err := c.show(cmd.Context(), path); err != nil || interval <= 0 {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Duration(interval) * time.Second):
				}
			}
		},
	}
	cmd.Flags().IntVarP(&interval, "interval", "I", 0, "print again after so many seconds")
	return cmd
}

func (c *nydusctl) mount() *cobra.Command {
	var source, config, point, kind string
	cmd := &cobra.Command{
		Use: "mount", Short: "Mount in the daemon's mount", Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := map[string]string{"source": source, "fs_type": kind}
			if config != "" {
				b, err := os.ReadFile(config)
				if err != nil {
					return err
				}
				body["config"] = string(b)
			}
			_, err := c.do(cmd.Context(), http.MethodPost, "/api/v1/mount?mountpoint="+url.QueryEscape(point), body)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&source, "source", "s", "", "bootstrap or directory")
	fs.StringVarP(&config, "config", "c", "", "path of the configuration")
	fs.StringVarP(&point, "mountpoint", "m", "", "where")
	fs.StringVarP(&kind, "type", "t", "rafs", "rafs or passthrough_fs")
	return cmd
}

func (c *nydusctl) umount() *cobra.Command {
	var point string
	cmd := &cobra.Command{
		Use: "umount", Short: "Unmount from the daemon's mount", Args: needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := c.do(cmd.Context(), http.MethodDelete, "/api/v1/mount?mountpoint="+url.QueryEscape(point), nil)
			return err
		},
	}
	cmd.Flags().StringVarP(&point, "mountpoint", "m", "", "where")
	return cmd
}
