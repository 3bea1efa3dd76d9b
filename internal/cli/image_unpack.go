package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/unpack"
)

func newImageUnpackCmd(env *Env) *cobra.Command {
	var blobDir, dir, tarFile string
	var o unpack.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "unpack IMAGE (--tar FILE | --dir DIR)",
		Short: "Take the files out of an image",
		Long: `Write the files of an image to a tar, or to a directory that does not exist yet
or is empty. Every chunk is verified; the target appears when it is complete.`,
		Example: `  sluice image unpack image/image.boot --dir rootfs
  sluice image unpack image/image.boot --tar - | tar -t`,
		Args: needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (dir == "") == (tarFile == "") {
				return usageError{errors.New("say where to: --tar FILE or --dir DIR")}
			}
			tree, blobs, err := openWithBlobs(cmd.Context(), args[0], blobDir)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			o.Backend = blobs
			r, err := unpackTo(cmd, env, tree, dir, tarFile, o)
			if err != nil {
				return err
			}
			for _, s := range r.Skipped {
				fmt.Fprintf(env.Stderr, "left out %s\n", s)
			}
			if tarFile == "-" {
				return nil // standard output has the tar
			}
			if asJSON {
				return printJSON(env.Stdout, r)
			}
			fmt.Fprintf(env.Stdout, "%d entries, %s\n", r.Entries, bytesText(r.Bytes))
			return nil
		},
	}
	cmd.Flags().StringVar(&tarFile, "tar", "", "`file` for the tar, - for standard output")
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` for the files")
	cmd.Flags().StringVar(&blobDir, "blob-dir", "", "directory or disk with the image's blobs (default: that of the image)")
	cmd.Flags().BoolVar(&o.Whiteouts, "oci-whiteouts", false, "to a tar: write overlayfs's whiteouts as those of OCI layers")
	cmd.Flags().BoolVar(&o.NoOwner, "no-owner", false, "to a directory: all belongs to the caller, devices are left out")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func unpackTo(cmd *cobra.Command, env *Env, tree image.Tree, dir, tarFile string, o unpack.Options) (*unpack.Result, error) {
	switch {
	case dir != "":
		return unpack.Dir(cmd.Context(), tree, dir, o)
	case tarFile == "-":
		return unpack.Tar(cmd.Context(), tree, env.Stdout, o)
	}
	return unpack.TarFile(cmd.Context(), tree, tarFile, o)
}
