package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
)

// nydusMerge are the options of "nydus-image merge".
type nydusMerge struct {
	bootstrap, blobDir, parent, chunkDict, prefetch, outputJSON    string
	digests, originalIDs, sizes, tocDigests, tocSizes, config, wht string
}

func newNydusMergeCmd(env *Env) *cobra.Command {
	var o nydusMerge
	cmd := &cobra.Command{
		Use:   "merge BOOTSTRAP...",
		Short: "Put the bootstraps of layers together, the lowest first",
		Args:  needArgs(cobra.MinimumNArgs(1)),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.run(cmd, env, args) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.bootstrap, "bootstrap", "B", "", "file for the bootstrap of the whole")
	fs.StringVarP(&o.blobDir, "blob-dir", "D", "", "directory of the layers' blobs")
	fs.StringVarP(&o.parent, "parent-bootstrap", "p", "", "image below the lowest layer")
	fs.StringVarP(&o.chunkDict, "chunk-dict", "M", "", "bootstrap=FILE of the dictionary that the layers were made with")
	fs.StringVarP(&o.prefetch, "prefetch-policy", "P", "none", "fs, blob or none; the paths are read from standard input")
	fs.StringVarP(&o.outputJSON, "output-json", "J", "", "file for the result as JSON")
	fs.StringVar(&o.digests, "blob-digests", "", "SHA-256 of each layer's blob, with commas between them")
	fs.StringVar(&o.originalIDs, "original-blob-ids", "", "id by which each layer's bootstrap knows its blob")
	fs.StringVar(&o.sizes, "blob-sizes", "", "bytes of each layer's blob")
	fs.StringVar(&o.tocDigests, "blob-toc-digests", "", "SHA-256 of each blob's table of contents")
	fs.StringVar(&o.tocSizes, "blob-toc-sizes", "", "bytes of each blob's table of contents")
	fs.StringVarP(&o.config, "config", "C", "", "configuration file (not needed)")
	fs.StringVarP(&o.wht, "whiteout-spec", "W", "oci", "oci, overlayfs or none")
	cmd.MarkFlagRequired("bootstrap")
	return cmd
}

// perLayer cuts a list with one element for each of n layers; "" gives none.
func perLayer(flag, list string, n int) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	parts := strings.Split(list, ",")
	if len(parts) != n {
		return nil, usageError{fmt.Errorf("--%s has %d elements for %d layers", flag, len(parts), n)}
	}
	return parts, nil
}

// layers opens the bootstraps and adds what the lists say of their blobs.
func (o *nydusMerge) layers(paths []string) (layers []build.MergeLayer, closeAll func(), err error) {
	layers, closeAll, err = openMergeLayers(paths, o.blobDir)
	if err != nil {
		return layers, closeAll, err
	}
	set := func(flag, list string, f func(l *build.MergeLayer, s string) error) {
		parts, e := perLayer(flag, list, len(paths))
		for i, s := range parts {
			if e == nil && s != "" {
				e = f(&layers[i], s)
			}
		}
		if err == nil {
			err = e
		}
	}
	set("original-blob-ids", o.originalIDs, func(l *build.MergeLayer, s string) error {
		l.Own = s
		return nil
	})
	set("blob-digests", o.digests, func(l *build.MergeLayer, s string) error {
		l.ID = s
		_, err := hexDigest("blob-digests", s)
		return err
	})
	set("blob-sizes", o.sizes, func(l *build.MergeLayer, s string) (err error) {
		if l.Size, err = strconv.ParseInt(s, 10, 64); err != nil || l.Size < 0 {
			return usageError{fmt.Errorf("--blob-sizes: %q is not a size", s)}
		}
		return nil
	})
	set("blob-toc-digests", o.tocDigests, func(l *build.MergeLayer, s string) (err error) {
		l.TOCDigest, err = hexDigest("blob-toc-digests", s)
		return err
	})
	set("blob-toc-sizes", o.tocSizes, func(l *build.MergeLayer, s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return usageError{fmt.Errorf("--blob-toc-sizes: %q is not a size", s)}
		}
		l.TOCSize = uint32(n)
		return nil
	})
	return layers, closeAll, err
}

func (o *nydusMerge) run(cmd *cobra.Command, env *Env, paths []string) error {
	opt := build.Options{Warn: warnTo(env)}
	var err error
	if opt.Whiteouts, err = parseWhiteouts(o.wht); err != nil {
		return usageError{err}
	}
	if err := nydusPrefetch(env, o.prefetch, &opt); err != nil {
		return err
	}
	layers, closeAll, err := o.layers(paths)
	defer closeAll()
	if err != nil {
		return err
	}
	// Of the dictionary nothing is needed: the layers say themselves which of
	// its blobs they refer to.
	done, err := openLower(&opt, o.parent, o.chunkDict)
	defer done()
	if err != nil {
		return err
	}
	res, err := build.Merge(cmd.Context(), layers, build.Output{Bootstrap: o.bootstrap}, opt)
	if err != nil {
		return err
	}
	return writeNydusOutput(o.outputJSON, res, layers[len(layers)-1].Tree.Info().Compressor.String())
}
