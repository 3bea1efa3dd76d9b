package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
)

// nydusInput are the options that say where an image and its blobs are.
type nydusInput struct {
	bootstrap, blobDir, backendType string
}

func (o *nydusInput) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&o.bootstrap, "bootstrap", "B", "", "bootstrap of the image")
	fs.StringVarP(&o.blobDir, "blob-dir", "D", "", "directory of the blobs (default: that of the bootstrap)")
	fs.StringVar(&o.backendType, "backend-type", "localfs", "where blobs are: localfs is supported, with --blob-dir")
	fs.StringP("config", "C", "", "configuration file (not needed: the blobs are in --blob-dir)")
	cmd.MarkFlagRequired("bootstrap")
}

func (o *nydusInput) open(cmd *cobra.Command) (image.Tree, blobStore, error) {
	if o.backendType != "localfs" {
		return nil, nil, usageError{fmt.Errorf("--backend-type %s is not supported here: fetch the blobs and give --blob-dir", o.backendType)}
	}
	return openWithBlobs(cmd.Context(), o.bootstrap, o.blobDir)
}

func newNydusExportCmd(env *Env) *cobra.Command {
	var in nydusInput
	var block, verity bool
	var output string
	var threads int
	cmd := &cobra.Command{
		Use:   "export --block",
		Short: "Write an image as one EROFS file",
		Args:  needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !block {
				return usageError{errors.New("--block is needed: other forms of export are not known")}
			}
			tree, blobs, err := in.open(cmd)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			if output == "" {
				output = in.bootstrap + ".disk"
			}
			res, err := build.Export(cmd.Context(), tree, blobs, output, build.ExportOptions{Parallel: threads, Verity: verity})
			if err == nil && res.Verity != nil {
				_, err = fmt.Fprintln(env.Stdout, "dm-verity options:", res.Verity)
			}
			return err
		},
	}
	in.add(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&block, "block", false, "write a block device image")
	fs.BoolVar(&verity, "verity", false, "append a dm-verity hash tree and print its options")
	fs.StringVar(&output, "output", "", "file to write (default: the bootstrap's name with .disk)")
	fs.StringVar(&in.blobDir, "localfs-dir", "", "the same as --blob-dir")
	fs.IntVar(&threads, "threads", 4, "workers, 1 to 32")
	return cmd
}

// nydusRewrite are the options of commands that move chunks to a new blob.
type nydusRewrite struct {
	nydusInput
	outBootstrap, outBlobDir, outputJSON string
}

func (o *nydusRewrite) add(cmd *cobra.Command) {
	o.nydusInput.add(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&o.outBootstrap, "output-bootstrap", "O", "", "file for the new bootstrap (default: the old one's name with .new)")
	fs.StringVar(&o.outBlobDir, "output-blob-dir", "", "directory for the new blob (default: --blob-dir)")
	fs.StringVarP(&o.outputJSON, "output-json", "J", "", "file for the result as JSON")
	fs.String("backend-config", "", "accepted and not needed")
	fs.String("backend-config-file", "", "accepted and not needed")
}

func (o *nydusRewrite) output() build.Output {
	out := build.Output{Bootstrap: o.outBootstrap, BlobDir: o.outBlobDir}
	if out.Bootstrap == "" {
		out.Bootstrap = o.bootstrap + ".new"
	}
	if out.BlobDir == "" {
		out.BlobDir = o.blobDir
	}
	if out.BlobDir == "" {
		out.BlobDir = filepath.Dir(o.bootstrap)
	}
	return out
}

// run opens the image, has f write the new one, and writes the JSON.
func (o *nydusRewrite) run(cmd *cobra.Command, f func(image.Tree, blobStore, build.Output) (*build.Result, error)) error {
	tree, blobs, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer tree.Close()
	defer blobs.Close()
	res, err := f(tree, blobs, o.output())
	if err != nil {
		return err
	}
	return writeNydusOutput(o.outputJSON, res, tree.Info().Compressor.String())
}

func newNydusCompactCmd(env *Env) *cobra.Command {
	var o nydusRewrite
	var minRatio, blobSize, maxSize, layers, dict string
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Give up blobs of which little is used",
		Args:  needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ratio, err := strconv.ParseUint(minRatio, 10, 8)
			if err != nil || ratio > 100 {
				return usageError{fmt.Errorf("--min-used-ratio: %q is not a percentage", minRatio)}
			}
			max, err := chunkSize("--max-compact-size", maxSize)
			if err != nil {
				return usageError{err}
			}
			c := build.CompactOptions{MinUsedRatio: float64(ratio) / 100, MaxSize: int64(max)}
			return o.run(cmd, func(t image.Tree, b blobStore, out build.Output) (*build.Result, error) {
				return build.Compact(cmd.Context(), t, b, c, out, build.Options{Warn: warnTo(env)})
			})
		},
	}
	o.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&minRatio, "min-used-ratio", "5", "give up blobs of which less than this many per cent are used")
	fs.StringVar(&blobSize, "compact-blob-size", "10485760", "accepted and not needed: what is used goes to one blob")
	fs.StringVar(&maxSize, "max-compact-size", "104857600", "keep blobs with more stored bytes than this")
	fs.StringVar(&layers, "layers-to-compact", "32", "accepted and not needed")
	fs.StringVarP(&dict, "chunk-dict", "M", "", "accepted and not needed")
	return cmd
}

func newNydusOptimizeCmd(env *Env) *cobra.Command {
	var o nydusRewrite
	var files string
	cmd := &cobra.Command{
		Use:   "optimize",
		Short: "Put the files that are read first into one blob",
		Args:  needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			hot, err := hotList("", files)
			if err != nil {
				return err
			}
			return o.run(cmd, func(t image.Tree, b blobStore, out build.Output) (*build.Result, error) {
				return build.Optimize(cmd.Context(), t, b, hot, out, build.Options{Warn: warnTo(env)})
			})
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&files, "prefetch-files", "", "file with one path on each line")
	cmd.MarkFlagRequired("prefetch-files")
	return cmd
}
