package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/unpack"
	"github.com/sluicefs/sluice/storage"
)

// nydusUnpack are the options of "nydus-image unpack".
type nydusUnpack struct {
	nydusInput
	blob, output string
}

func newNydusUnpackCmd(env *Env) *cobra.Command {
	var o nydusUnpack
	cmd := &cobra.Command{
		Use:   "unpack [BOOTSTRAP]",
		Short: "Write the files of an image as a tar",
		Args:  needArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.bootstrap = args[0]
			}
			if o.bootstrap == "" || o.output == "" {
				return usageError{errors.New("a bootstrap and --output are needed")}
			}
			return o.run(cmd)
		},
	}
	o.add(cmd)
	delete(cmd.Flag("bootstrap").Annotations, cobra.BashCompOneRequiredFlag)
	cmd.Flags().StringVarP(&o.blob, "blob", "b", "", "the image's only blob")
	cmd.Flags().StringVar(&o.output, "output", "", "tar file or pipe to write")
	cmd.Flags().String("backend-config", "", "accepted and not needed")
	return cmd
}

func (o *nydusUnpack) run(cmd *cobra.Command) error {
	tree, blobs, done, err := o.openBlobs(cmd)
	if err != nil {
		return err
	}
	defer done()
	opt := unpack.Options{Backend: blobs}
	if fi, err := os.Stat(o.output); err != nil || fi.Mode().IsRegular() {
		_, err := unpack.TarFile(cmd.Context(), tree, o.output, opt)
		return err
	}
	pipe, err := os.OpenFile(o.output, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := unpack.Tar(cmd.Context(), tree, pipe, opt); err != nil {
		pipe.Close()
		return err
	}
	return pipe.Close()
}

// openBlobs opens the image with its blobs, or with the one blob file given.
func (o *nydusUnpack) openBlobs(cmd *cobra.Command) (image.Tree, storage.Backend, func(), error) {
	if o.blob == "" {
		tree, blobs, err := o.open(cmd)
		if err != nil {
			return nil, nil, nil, err
		}
		return tree, blobs, func() { tree.Close(); blobs.Close() }, nil
	}
	tree, err := detect.Open(o.bootstrap, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	var one oneBlob
	if n := len(tree.Blobs()); n > 1 {
		tree.Close()
		return nil, nil, nil, usageError{fmt.Errorf("the image has %d blobs: give --blob-dir, not --blob", n)}
	} else if n == 1 {
		if one.f, err = os.Open(o.blob); err != nil {
			tree.Close()
			return nil, nil, nil, err
		}
	}
	done := func() {
		tree.Close()
		if one.f != nil {
			one.f.Close()
		}
	}
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(cmd.Context(), one); err != nil {
			done()
			return nil, nil, nil, err
		}
	}
	return tree, one, done, nil
}

// oneBlob is a backend of one file, whatever the image calls its blob.
type oneBlob struct{ f *os.File }

func (o oneBlob) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	if o.f == nil {
		return fmt.Errorf("blob %s: %w", blob, fs.ErrNotExist)
	}
	_, err := o.f.ReadAt(p, off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (o oneBlob) Size(_ context.Context, blob string) (int64, error) {
	if o.f == nil {
		return 0, fmt.Errorf("blob %s: %w", blob, fs.ErrNotExist)
	}
	fi, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
