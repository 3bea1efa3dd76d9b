package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
)

// blobStore has the blobs of an image.
type blobStore interface {
	storage.Backend
	io.Closer
}

// blobsBeside opens what has an image's blobs: at, a directory or a disk with
// partitions, or if that is "" the directory that the image is in.
func blobsBeside(image, at string) (blobStore, error) {
	if at == "" {
		at = filepath.Dir(image)
	}
	if fi, err := os.Stat(at); err == nil && !fi.IsDir() {
		return source.OpenDisk(at)
	}
	return direct.OpenDir(at)
}

func newImageCheckCmd(env *Env) *cobra.Command {
	var blobDir string
	var asJSON, metadata bool
	cmd := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Look for what is wrong in an image",
		Long: `Walk all names, attributes and chunks of an image and compare every chunk with
its digest, where its blob is at hand. The exit code is 1 if anything is wrong.

IMAGE is a bootstrap (RAFS 5 or 6), a blob or layer with one inside, or an EROFS
file system.`,
		Example: "  sluice image check image/image.boot\n  sluice image check --metadata-only image.boot",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, err := detect.Open(args[0], nil)
			if err != nil {
				return err
			}
			defer tree.Close()
			o := check.Options{Workers: runtime.GOMAXPROCS(0)}
			if !metadata {
				blobs, err := blobsBeside(args[0], blobDir)
				if err != nil {
					return err
				}
				defer blobs.Close()
				o.Backend = blobs
			}
			r, err := check.Run(cmd.Context(), tree, o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(env.Stdout, r)
			} else {
				printCheck(env, r)
			}
			if err == nil && !r.OK() {
				return exitError{exitFailed}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&blobDir, "blob-dir", "", "directory or disk with the image's blobs (default: that of the image)")
	cmd.Flags().BoolVar(&metadata, "metadata-only", false, "do not read blobs")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printCheck(env *Env, r *check.Report) {
	w := env.Stdout
	fmt.Fprintf(w, "%s: %d entries, %d inodes: %d directories, %d files (%s), %d symbolic links, %d others\n", r.Format,
		r.Entries, r.Inodes, r.Directories, r.Files, bytesText(int64(r.FileBytes)), r.Symlinks, r.Specials)
	if r.Chunks > 0 {
		fmt.Fprintf(w, "%d chunks, %d verified (%s)", r.Chunks, r.Verified, bytesText(int64(r.VerifiedLen)))
		if r.NoDigest > 0 {
			fmt.Fprintf(w, ", %d read that have no digest", r.NoDigest)
		}
		fmt.Fprintln(w)
	}
	for _, id := range r.Missing {
		fmt.Fprintf(env.Stderr, "blob %s is not at hand: its chunks were not read\n", id)
	}
	for _, p := range r.Warnings {
		fmt.Fprintf(env.Stderr, "warning: %s\n", printable(p.String()))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(env.Stderr, "error: %s\n", printable(p.String()))
	}
	switch {
	case r.Incomplete:
		fmt.Fprintln(w, "ended early: too much is wrong")
	case r.OK():
		fmt.Fprintln(w, "nothing is wrong")
	default:
		fmt.Fprintf(w, "wrong: %d\n", len(r.Problems))
	}
}
