package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/rafs"
)

func newImageMergeCmd(env *Env) *cobra.Command {
	var out, blobDir, whiteouts, parent string
	var prefetch []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "merge BOOTSTRAP... -o FILE",
		Short: "Put the bootstraps of layers together, the lowest first",
		Long: `Put the bootstraps of layers together to that of one image. Whiteouts are
applied; blobs are not touched. All layers must agree on RAFS version, chunk
size and digester.`,
		Example: `  sluice image merge base.boot app.boot -o image.boot`,
		Args:    needArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{fmt.Errorf("say where the image goes: --output FILE")}
			}
			opt := build.Options{
				PrefetchPaths: prefetch,
				Warn:          warnTo(env),
			}
			if len(prefetch) > 0 {
				opt.Prefetch = build.PrefetchFS
			}
			var err error
			if opt.Whiteouts, err = parseWhiteouts(whiteouts); err != nil {
				return usageError{err}
			}
			layers, closeLayers, err := openMergeLayers(args, blobDir)
			defer closeLayers()
			if err != nil {
				return err
			}
			if parent != "" {
				if opt.Parent, err = detect.Open(parent, nil); err != nil {
					return err
				}
				defer opt.Parent.Close()
			}
			res, err := build.Merge(cmd.Context(), layers, build.Output{Bootstrap: out}, opt)
			if err != nil {
				return err
			}
			return (&outputFlags{json: asJSON}).report(env, res)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&out, "output", "o", "", "file for the bootstrap of the whole")
	fs.StringVar(&blobDir, "blob-dir", "", "directory of the layers' blobs, for their sizes (default: that of each bootstrap)")
	fs.StringVar(&whiteouts, "whiteouts", "oci", "how upper layers mark what they remove: oci, overlayfs or none")
	fs.StringVar(&parent, "parent-bootstrap", "", "image below the lowest layer")
	fs.StringSliceVar(&prefetch, "prefetch", nil, "fetch these `paths` first when the image is mounted; / means all")
	fs.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// openMergeLayers opens bootstraps as layers. A blob that holds its own
// bootstrap is called by the first part of the bootstrap's file name; its
// size is taken from blobDir if the blob is there.
func openMergeLayers(paths []string, blobDir string) (layers []build.MergeLayer, closeAll func(), err error) {
	closeAll = func() {
		for _, l := range layers {
			l.Tree.Close()
		}
	}
	for _, path := range paths {
		tree, err := detect.Open(path, nil)
		if err != nil {
			return layers, closeAll, err
		}
		l := build.MergeLayer{Tree: tree, Own: rafs.IDFromName(path)}
		dir := blobDir
		if dir == "" {
			dir = filepath.Dir(path)
		}
		if l.Own != "" {
			if fi, err := os.Stat(filepath.Join(dir, l.Own)); err == nil && fi.Mode().IsRegular() && !sameFile(path, filepath.Join(dir, l.Own)) {
				l.Size = fi.Size()
			}
		}
		layers = append(layers, l)
	}
	return layers, closeAll, nil
}

// sameFile reports whether both paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
