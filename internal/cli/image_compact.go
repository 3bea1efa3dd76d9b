package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
)

// rewriteFlags are those of commands that move chunks to a new blob.
type rewriteFlags struct {
	outputFlags
	sourceBlobs string
	level       int
}

func (f *rewriteFlags) add(cmd *cobra.Command) {
	f.outputFlags.add(cmd.Flags())
	cmd.Flags().StringVar(&f.sourceBlobs, "source-blob-dir", "", "directory of the image's blobs (default: that of the image)")
	cmd.Flags().IntVar(&f.level, "level", 1, "of zstd, 1 (fastest) to 4 (smallest)")
	for _, name := range []string{"push", "layout", "plain-http"} {
		cmd.Flags().MarkHidden(name)
	}
}

// options are those of the new blob, and the bar that shows how far it is.
func (f *rewriteFlags) options(env *Env, what string) (build.Options, *progressBar) {
	bar := newProgressBar(env, what, f.quiet)
	return build.Options{
		Level: f.level, Progress: bar.add,
		Warn: func(s string) { fmt.Fprintln(env.Stderr, "warning:", s) },
	}, bar
}

func newImageCompactCmd(env *Env) *cobra.Command {
	var f rewriteFlags
	var c build.CompactOptions
	var maxSize string
	cmd := &cobra.Command{
		Use:   "compact IMAGE -o DIR",
		Short: "Give up blobs of which little is used",
		Long: `Write the same image with fewer stored bytes: what is used of blobs that are
used little goes to one new blob. Blobs that stay are not copied.`,
		Example: `  sluice image compact image/image.boot --min-used-ratio 0.3 -o compact`,
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if c.MaxSize, err = parseSize(maxSize); err != nil {
				return usageError{fmt.Errorf("--max-compact-size: %w", err)}
			}
			if c.MinUsedRatio <= 0 || c.MinUsedRatio > 1 {
				return usageError{fmt.Errorf("--min-used-ratio is %v: want more than 0, at most 1", c.MinUsedRatio)}
			}
			dst, cleanup, err := f.output()
			defer cleanup()
			if err != nil {
				return err
			}
			tree, blobs, err := openWithBlobs(cmd.Context(), args[0], f.sourceBlobs)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			opt, bar := f.options(env, "compact")
			res, err := build.Compact(cmd.Context(), tree, blobs, c, dst, opt)
			bar.end()
			if err != nil {
				return err
			}
			return f.report(env, res)
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&c.MinUsedRatio, "min-used-ratio", 0.5, "give up blobs of which a smaller part than this is used, 0 to 1")
	cmd.Flags().StringVar(&maxSize, "max-compact-size", "0", "keep blobs with more stored bytes than this (0: no limit)")
	return cmd
}
