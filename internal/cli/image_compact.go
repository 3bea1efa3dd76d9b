package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/storage"
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

// rewriteInput is what a command that moves chunks works with.
type rewriteInput struct {
	tree  image.Tree
	blobs storage.Backend
	out   build.Output
	opt   build.Options
}

// run opens the image, has write make the new one, and reports it. what is
// the name of the progress bar.
func (f *rewriteFlags) run(ctx context.Context, env *Env, what, path string, write func(*rewriteInput) (*build.Result, error)) error {
	dst, cleanup, err := f.output()
	defer cleanup()
	if err != nil {
		return err
	}
	tree, blobs, err := openWithBlobs(ctx, path, f.sourceBlobs)
	if err != nil {
		return err
	}
	defer tree.Close()
	defer blobs.Close()
	bar := newProgressBar(env, what, f.quiet)
	res, err := write(&rewriteInput{tree, blobs, dst, build.Options{Level: f.level, Progress: bar.add, Warn: warnTo(env)}})
	bar.end()
	if err != nil {
		return err
	}
	return f.report(env, res)
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
			return f.run(cmd.Context(), env, "compact", args[0], func(in *rewriteInput) (*build.Result, error) {
				return build.Compact(cmd.Context(), in.tree, in.blobs, c, in.out, in.opt)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&c.MinUsedRatio, "min-used-ratio", 0.5, "give up blobs of which a smaller part than this is used, 0 to 1")
	cmd.Flags().StringVar(&maxSize, "max-compact-size", "0", "keep blobs with more stored bytes than this (0: no limit)")
	return cmd
}
