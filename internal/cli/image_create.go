package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
)

func newImageCreateCmd(env *Env) *cobra.Command {
	var format formatFlags
	var out outputFlags
	var kind string
	cmd := &cobra.Command{
		Use:   "create SOURCE...",
		Short: "Make an image of a directory, of tar archives or of an OCI image",
		Long: `Make a RAFS image of

  a directory,
  a tar archive, plain or compressed with gzip or zstd; "-" is standard input,
  several tar archives: layers, the lowest first,
  an OCI image: a reference in a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG].

With --type targz-ref the data stays in the tar.gz file SOURCE: what is written is
the bootstrap and a small index. Readers look for the archive among the blobs,
under its SHA-256.

The output appears under its name when it is complete. The same source and
options give the same bytes.`,
		Example: `  sluice image create ./rootfs -o image
  tar c . | sluice image create - --compressor lz4_block -o image
  sluice image create docker.io/library/python:3 --push localhost:5000/python:3-rafs`,
		Args: needArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			opt, dst, done, err := prepare(env, &format, &out)
			defer done()
			if err != nil {
				return err
			}
			if kind == kindTargzRef {
				if out.push != "" || out.layout != "" {
					return usageError{errors.New("--push and --layout are not supported with --type targz-ref: the data is a layer of another image")}
				}
				opt.TargzRef, opt.Compressor = true, storage.None
			}
			src, config, closeSource, err := buildSource(cmd.Context(), env, args, source.Kind(kind), out.plainHTTP)
			if err != nil {
				return err
			}
			defer closeSource()
			bar := newProgressBar(env, "create", out.quiet)
			opt.Progress, opt.Total = bar.add, bar.total
			res, err := build.Create(cmd.Context(), src, dst, opt)
			bar.end()
			if err != nil {
				return err
			}
			if err := out.deliverWritten(cmd.Context(), res, config); err != nil {
				return err
			}
			return out.report(env, res)
		},
	}
	format.add(cmd.Flags())
	out.add(cmd.Flags())
	cmd.Flags().StringVarP(&kind, "type", "t", "auto", "what the source is: auto, dir, tar, targz-ref, oci, oci-archive, registry, bootstrap")
	return cmd
}

// kindTargzRef is the type of source whose data stays where it is.
const kindTargzRef = "targz-ref"

// deliverWritten delivers an image all of whose blobs were just written.
func (f *outputFlags) deliverWritten(ctx context.Context, res *build.Result, config *v1.ConfigFile) error {
	if f.push == "" && f.layout == "" {
		return nil
	}
	if len(res.Blobs) != len(res.Written) {
		return errors.New("the image refers to blobs of other images: it can not be pushed by itself")
	}
	var blobs []string
	for _, b := range res.Written {
		blobs = append(blobs, b.Path)
	}
	return f.deliver(ctx, res, blobs, config)
}

// buildSource finds out what the arguments of create are.
func buildSource(ctx context.Context, env *Env, args []string, kind source.Kind, plainHTTP bool) (src build.Source, config *v1.ConfigFile, closeSource func(), err error) {
	closeSource = func() {}
	if len(args) > 1 || args[0] == "-" || kind == kindTargzRef {
		var layers []build.Layer
		for _, a := range args {
			if a == "-" {
				layers = append(layers, build.Layer{
					Name: "standard input",
					Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(env.Stdin), nil },
				})
				continue
			}
			layers = append(layers, build.TarFile(a))
		}
		return build.Tars(layers...), nil, closeSource, nil
	}
	ref, err := source.Parse(args[0], kind)
	if err != nil {
		return nil, nil, closeSource, err
	}
	switch ref.Kind {
	case source.Directory:
		return build.Dir(ref.Name), nil, closeSource, nil
	case source.Tar:
		return build.Tars(build.TarFile(ref.Name)), nil, closeSource, nil
	case source.Bootstrap:
		tree, blobs, err := openWithBlobs(ctx, ref.Name, filepath.Dir(ref.Name))
		if err != nil {
			return nil, nil, closeSource, err
		}
		return build.Image(tree, blobs), nil, func() { tree.Close(); blobs.Close() }, nil
	case source.Registry, source.OCILayout, source.OCIArchive:
		l, err := source.OpenLayers(ctx, ref, source.Options{PlainHTTP: plainHTTP})
		if err != nil {
			return nil, nil, closeSource, err
		}
		return build.Tars(l.List...), l.Config, func() { l.Close() }, nil
	}
	return nil, nil, closeSource, fmt.Errorf("%s: a source of type %s is not supported: an image is made of a directory, a tar archive or an OCI image", ref, ref.Kind)
}
