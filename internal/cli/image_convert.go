package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
)

func newImageConvertCmd(env *Env) *cobra.Command {
	var format formatFlags
	var out outputFlags
	var blobDir, to string
	cmd := &cobra.Command{
		Use:   "convert IMAGE",
		Short: "Make an image of another format out of an image",
		Long: `Make an image of another format, chunk size or compression: RAFS v6, RAFS v5
and EROFS in any direction. The source is a bootstrap or an EROFS file.`,
		Example: `  sluice image convert image.boot --to v5 -o image-v5
  sluice image convert flat.erofs --to v6 -o image
  sluice image convert image/image.boot --to erofs -o erofs-dir`,
		Args: needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch to {
			case "v6":
				format.version = 6
			case "v5":
				format.version = 5
			case "erofs":
			default:
				return oneOf("to", to, "v6", "v5", "erofs")
			}
			opt, dst, done, err := prepare(env, &format, &out)
			defer done()
			if err != nil {
				return err
			}
			tree, blobs, err := openWithBlobs(cmd.Context(), args[0], blobDir)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			bar := newProgressBar(env, "convert", out.quiet)
			defer bar.end()
			if to == "erofs" {
				res, err := build.Export(cmd.Context(), tree, blobs, dst.Bootstrap, build.ExportOptions{
					Parallel: opt.Parallel, Progress: bar.add, Total: bar.total,
				})
				if err == nil {
					fmt.Fprintf(env.Stdout, "EROFS %s  %s\n", dst.Bootstrap, bytesText(res.Size))
				}
				return err
			}
			opt.Progress, opt.Total = bar.add, bar.total
			res, err := build.Create(cmd.Context(), build.Image(tree, blobs), dst, opt)
			if err != nil {
				return err
			}
			bar.end()
			if err := out.deliverWritten(cmd.Context(), res, nil); err != nil {
				return err
			}
			return out.report(env, res)
		},
	}
	fs := cmd.Flags()
	format.add(fs)
	out.add(fs)
	fs.StringVar(&to, "to", "v6", "v6, v5 or erofs (one file, as export makes)")
	fs.StringVar(&blobDir, "source-blob-dir", "", "directory of the source's blobs (default: that of the source)")
	fs.MarkHidden("fs-version")
	return cmd
}
