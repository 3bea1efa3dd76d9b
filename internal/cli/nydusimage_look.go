package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/inspect"
	"github.com/sluicefs/sluice/image/usage"
)

// nydusLook are the options of commands that look into an image, whose
// bootstrap is an argument or --bootstrap.
type nydusLook struct {
	bootstrap, blobDir, outputJSON string
}

func (o *nydusLook) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&o.bootstrap, "bootstrap", "B", "", "bootstrap, instead of the argument")
	fs.StringVarP(&o.blobDir, "blob-dir", "D", "", "directory of the blobs")
	fs.StringP("config", "C", "", "configuration file (not needed: the blobs are in --blob-dir)")
}

// open opens the image, and its blobs if --blob-dir is given; otherwise blobs
// is nil.
func (o *nydusLook) open(cmd *cobra.Command, args []string) (tree image.Tree, done func(), err error) {
	if len(args) == 1 {
		o.bootstrap = args[0]
	}
	if o.bootstrap == "" {
		return nil, nil, usageError{errors.New("a bootstrap is needed")}
	}
	if o.blobDir == "" {
		tree, err := detect.Open(o.bootstrap, nil)
		if err != nil {
			return nil, nil, err
		}
		return tree, func() { tree.Close() }, nil
	}
	tree, blobs, err := openWithBlobs(cmd.Context(), o.bootstrap, o.blobDir)
	if err != nil {
		return nil, nil, err
	}
	return tree, func() { tree.Close(); blobs.Close() }, nil
}

// command returns a command that looks into the image.
func (o *nydusLook) command(use, short string, look func(ctx context.Context, tree image.Tree) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: needArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, done, err := o.open(cmd, args)
			if err != nil {
				return err
			}
			defer done()
			return look(cmd.Context(), tree)
		},
	}
	o.add(cmd)
	return cmd
}

func newNydusCheckCmd(env *Env) *cobra.Command {
	var o nydusLook
	cmd := o.command("check BOOTSTRAP", "Look for what is wrong in an image", func(ctx context.Context, tree image.Tree) error {
		var opt check.Options
		if o.blobDir != "" {
			blobs, err := blobsBeside(o.bootstrap, o.blobDir)
			if err != nil {
				return err
			}
			defer blobs.Close()
			opt.Backend = blobs
		}
		r, err := check.Run(ctx, tree, opt)
		if err != nil {
			return err
		}
		printCheck(env, r)
		if !r.OK() {
			return exitError{exitFailed}
		}
		info := tree.Info()
		res := &build.Result{
			Version: 6, Bootstrap: o.bootstrap, Inodes: r.Inodes, Files: r.Files, DataSize: int64(r.FileBytes), Chunks: r.Chunks,
		}
		if info.Format == "rafs v5" {
			res.Version = 5
		}
		for _, b := range tree.Blobs() {
			res.Blobs = append(res.Blobs, b.ID)
		}
		return writeNydusOutput(o.outputJSON, res, info.Compressor.String())
	})
	cmd.Flags().BoolP("verbose", "v", false, "accepted: all that is wrong is printed anyway")
	cmd.Flags().StringVarP(&o.outputJSON, "output-json", "J", "", "file for the result as JSON")
	return cmd
}

func newNydusInspectCmd(env *Env) *cobra.Command {
	var o nydusLook
	var request string
	cmd := o.command("inspect BOOTSTRAP", "Look into an image, at a prompt or with --request", func(ctx context.Context, tree image.Tree) error {
		s := inspect.New(tree)
		if request == "" {
			return inspectPrompt(env, s, false)
		}
		a, err := s.Ask(request)
		if err != nil && !errors.Is(err, inspect.ErrExit) {
			return err
		}
		return printAnswer(env.Stdout, a, true)
	})
	cmd.Flags().StringVarP(&request, "request", "R", "", "answer this as JSON instead of asking")
	return cmd
}

func newNydusStatCmd(env *Env) *cobra.Command {
	var o nydusLook
	var target string
	cmd := o.command("stat [BOOTSTRAP]", "Count what an image holds and stores", func(ctx context.Context, tree image.Tree) error {
		// What counts is the target, with the chunks that the image has
		// already.
		var base image.Tree
		if target != "" {
			t, err := detect.Open(target, nil)
			if err != nil {
				return err
			}
			defer t.Close()
			tree, base = t, tree
		}
		r, err := usage.Count(ctx, tree, base)
		if err != nil {
			return err
		}
		if o.outputJSON != "" {
			f, err := os.Create(o.outputJSON)
			if err != nil {
				return err
			}
			if err := printJSON(f, r); err != nil {
				f.Close()
				return err
			}
			return f.Close()
		}
		return printUsage(env, r, base != nil)
	})
	cmd.Flags().StringVarP(&target, "target", "T", "", "image to compare the first one with")
	cmd.Flags().StringVarP(&o.outputJSON, "output-json", "J", "", "file for the counts as JSON")
	return cmd
}
