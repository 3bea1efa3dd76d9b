package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage/cache"
)

func newCacheCmd(env *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look after the chunks that mounts have fetched",
		Long: `Look after the chunks that mounts have fetched. All commands may be used
while mounts are running: what they use is left to them.`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&dir, "cache-dir", defaultCacheDir(env), "directory for fetched data, as given to mount")
	open := func() (*cache.Cache, error) {
		return cache.Open(filepath.Join(dir, "chunks"), cache.Options{Log: slog.New(slog.DiscardHandler)})
	}
	converted := func() ([]source.Converted, error) { return source.ListConverted(dir) }
	cmd.AddCommand(newCacheListCmd(env, open, converted), newCacheCheckCmd(env, open), newCachePruneCmd(env, open, converted), newCachePinCmd(env, open), newCacheLimitCmd(env, open))
	return cmd
}

// withCache runs f with the cache, and closes it.
func withCache(open func() (*cache.Cache, error), f func(c *cache.Cache) error) error {
	c, err := open()
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

func newCacheListCmd(env *Env, open func() (*cache.Cache, error), converted func() ([]source.Converted, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List what is cached",
		Long: `List the blobs of which chunks are cached, and under the digests of their
manifests ("sha256:…") the plain images that had to be fetched as a whole; what
ends in ".whole" is a copy of one file for --passthrough=on.`,
		Example: "  sluice cache ls\n  sluice cache ls --json",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return withCache(open, func(c *cache.Cache) error {
				list, err := c.List()
				if err != nil {
					return err
				}
				whole, err := converted()
				if err != nil {
					return err
				}
				for _, w := range whole {
					list = append(list, cache.Entry{Name: w.Digest, Bytes: w.Size, OnDisk: w.Size, LastUse: w.LastUse, InUse: w.InUse})
				}
				if asJSON {
					return printJSON(env.Stdout, list)
				}
				rows := [][]string{{"BLOB", "CHUNKS", "SIZE", "ON DISK", "LAST USE", "STATE"}}
				for _, e := range list {
					rows = append(rows, []string{e.Name, fmt.Sprint(e.Chunks), bytesText(e.Bytes), bytesText(e.OnDisk), lastUse(&e), cacheState(&e)})
				}
				return printTable(env.Stdout, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func lastUse(e *cache.Entry) string {
	if e.LastUse.IsZero() || e.Chunks == 0 && e.Bytes == 0 {
		return "-"
	}
	return e.LastUse.Format(time.DateTime)
}

// isWhole reports whether an entry is an image and not a blob.
func isWhole(name string) bool { return strings.HasPrefix(name, "sha256:") }

func cacheState(e *cache.Entry) string {
	switch {
	case e.Pinned && e.InUse:
		return "pinned, in use"
	case e.Pinned:
		return "pinned"
	case e.InUse:
		return "in use"
	}
	return "-"
}

func newCacheCheckCmd(env *Env, open func() (*cache.Cache, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [BLOB...]",
		Short: "Verify cached chunks and take out damaged ones",
		Long: `Read every cached chunk and compare it with its digest. What is damaged is
taken out of the cache, to be fetched again when it is read. The exit code is
1 if there was any.`,
		Example: "  sluice cache check",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCache(open, func(c *cache.Cache) error {
				rep, err := c.Check(cmd.Context(), args, nil)
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(env.Stdout, rep)
				} else {
					for _, b := range rep.Damaged {
						fmt.Fprintf(env.Stdout, "damaged: blob %s chunk %d, %s\n", b.Name, b.Chunk, b.Digest)
					}
					fmt.Fprintf(env.Stdout, "%d chunks of %d blobs verified (%s), %d damaged and taken out\n", rep.Chunks, rep.Blobs, bytesText(rep.Bytes), len(rep.Damaged))
					if rep.Files > 0 {
						fmt.Fprintf(env.Stdout, "%d whole files among them\n", rep.Files)
					}
				}
				if err == nil && len(rep.Damaged) > 0 {
					err = exitError{exitFailed}
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newCachePruneCmd(env *Env, open func() (*cache.Cache, error), converted func() ([]source.Converted, error)) *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [BLOB...]",
		Short: "Take chunks out of the cache",
		Long: `Take out the named blobs and images; or without names, what was not used for
the longest time, until the cache takes no more than --to (default 0: all that
is not in use). Blobs that are pinned or in use by a mount stay. Chunks go
first, then images that had to be fetched as a whole.`,
		Example: "  sluice cache prune --to 10G\n  sluice cache prune",
		RunE: func(_ *cobra.Command, args []string) error {
			limit, err := parseSize(to)
			if err != nil {
				return usageError{fmt.Errorf("--to: %w", err)}
			}
			return withCache(open, func(c *cache.Cache) error {
				p := pruner{cache: c, converted: converted}
				var freed int64
				if len(args) > 0 {
					freed, err = p.remove(args)
				} else {
					freed, err = p.trim(limit)
				}
				used, usedErr := p.used()
				err = errors.Join(err, usedErr)
				if asJSON {
					return errors.Join(err, printJSON(env.Stdout, map[string]int64{"freed": freed, "used": used}))
				}
				fmt.Fprintf(env.Stdout, "%s freed, the cache takes %s\n", bytesText(freed), bytesText(used))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "0", "bytes that the cache may still take, with K, M, G or T")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newCachePinCmd(_ *Env, open func() (*cache.Cache, error)) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:     "pin BLOB...",
		Short:   "Keep blobs from being evicted",
		Example: "  sluice cache pin 0c1d2e…\n  sluice cache pin --remove 0c1d2e…",
		Args:    needArgs(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return withCache(open, func(c *cache.Cache) error {
				list, err := c.List()
				if err != nil {
					return err
				}
				known := make(map[string]bool)
				for _, e := range list {
					known[e.Name] = true
				}
				var errs []error
				for _, name := range args {
					switch {
					case !known[name]:
						errs = append(errs, fmt.Errorf("blob %s is not in the cache", name))
					case remove:
						errs = append(errs, c.Unpin(name))
					default:
						errs = append(errs, c.Pin(name))
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "let them be evicted again")
	return cmd
}

func newCacheLimitCmd(env *Env, open func() (*cache.Cache, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "limit [SIZE]",
		Short: "Show or set how much the cache may take",
		Long: `Show or set how many bytes the cache may take on disk, 0 being no limit. It
holds for mounts that are not given --cache-size, running ones included. What
exceeds it is evicted, least recently used first.`,
		Example: "  sluice cache limit 20G\n  sluice cache limit",
		Args:    needArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			size := int64(-1)
			if len(args) > 0 {
				var err error
				if size, err = parseSize(args[0]); err != nil {
					return usageError{err}
				}
			}
			return withCache(open, func(c *cache.Cache) error {
				if size >= 0 {
					if err := c.SetLimit(size); err != nil {
						return err
					}
					if size > 0 {
						if _, err := c.Trim(size); err != nil {
							return err
						}
					}
				}
				limit, err := c.Limit()
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(env.Stdout, map[string]int64{"limit": limit, "used": c.Used()})
				}
				text := "no limit"
				if limit > 0 {
					text = "limit " + bytesText(limit)
				}
				fmt.Fprintf(env.Stdout, "%s, %s used\n", text, bytesText(c.Used()))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
