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
	blob, output, config string
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
	cmd.Flags().StringVar(&o.config, "backend-config", "", "JSON of the backend; for http-proxy addr, a Unix socket or URL, and path")
	return cmd
}

func (o *nydusUnpack) run(cmd *cobra.Command) error {
	tree, blobs, done, err := o.openBlobs(cmd)
	if err != nil {
		return err
	}
	defer done()
	_, err = unpack.TarFile(cmd.Context(), tree, o.output, unpack.Options{Backend: blobs})
	return err
}

// openBlobs opens the image with its blobs: a directory, an HTTP proxy, or
// the one blob file given.
func (o *nydusUnpack) openBlobs(cmd *cobra.Command) (image.Tree, storage.Backend, func(), error) {
	if o.blob == "" && o.backendType != "http-proxy" {
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
	var blobs interface {
		storage.Backend
		io.Closer
	}
	if o.blob == "" {
		blobs, err = newProxyBlobs(o.config)
	} else {
		blobs, err = openOneBlob(o.blob, len(tree.Blobs()))
	}
	if err != nil {
		tree.Close()
		return nil, nil, nil, err
	}
	done := func() { tree.Close(); blobs.Close() }
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(cmd.Context(), blobs); err != nil {
			done()
			return nil, nil, nil, err
		}
	}
	return tree, blobs, done, nil
}

// openOneBlob opens the blob of an image that has n. An image without data
// needs no file.
func openOneBlob(path string, n int) (oneBlob, error) {
	switch n {
	case 0:
		return oneBlob{}, nil
	case 1:
		f, err := os.Open(path)
		return oneBlob{f}, err
	}
	return oneBlob{}, usageError{fmt.Errorf("the image has %d blobs: give --blob-dir, not --blob", n)}
}

// oneBlob is a backend of one file, whatever the image calls its blob.
type oneBlob struct{ f *os.File }

func (o oneBlob) Close() error {
	if o.f == nil {
		return nil
	}
	return o.f.Close()
}

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
