package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/storage"
)

// nydusCreate are the options of "nydus-image create".
type nydusCreate struct {
	kind, bootstrap, blobDir, blob, blobID        string
	chunkSize, batchSize, compressor, digester    string
	fsVersion, features, chunkDict, parent        string
	whiteouts, prefetch, outputJSON               string
	inline, oldInline, aligned, repeatable        bool
	encrypt                                       bool
	config, externalBlob, attributes, cacheDir    string
	blobDataSize, blobOffset, sourceType, backend string
}

func newNydusCreateCmd(env *Env) *cobra.Command {
	var o nydusCreate
	cmd := &cobra.Command{
		Use:   "create SOURCE",
		Short: "Make an image of a directory or a tar archive",
		Args:  needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, env, args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.kind, "type", "t", "", "source: directory, dir-rafs, tar-rafs, targz-rafs, targz-ref, estargz-rafs, tar-tarfs (directory unless --type is given)")
	fs.StringVar(&o.sourceType, "source-type", "", "the same as --type")
	fs.StringVarP(&o.bootstrap, "bootstrap", "B", "", "file for the bootstrap")
	fs.StringVarP(&o.blobDir, "blob-dir", "D", "", "directory for the blob, which is named by its id")
	fs.StringVarP(&o.blob, "blob", "b", "", "file or pipe for the blob")
	fs.BoolVar(&o.inline, "blob-inline-meta", false, "put the bootstrap into the blob")
	fs.BoolVar(&o.oldInline, "inline-bootstrap", false, "the same as --blob-inline-meta")
	fs.StringVar(&o.blobID, "blob-id", "", "id of the blob (default: its SHA-256)")
	fs.StringVar(&o.chunkSize, "chunk-size", "0x100000", "largest chunk in bytes, a power of two from 0x1000 to 0x1000000")
	fs.StringVar(&o.batchSize, "batch-size", "0", "compress small chunks together up to this many bytes, 0: not")
	fs.StringVar(&o.compressor, "compressor", "zstd", "none, lz4_block or zstd")
	fs.StringVar(&o.digester, "digester", "blake3", "blake3 or sha256")
	fs.StringVarP(&o.config, "config", "C", "", "configuration file (not needed: nothing is checked after the build)")
	fs.StringVarP(&o.fsVersion, "fs-version", "v", "6", "RAFS version, 5 or 6")
	fs.StringVar(&o.features, "features", "", "blob-toc: end the blob with a table of contents")
	fs.StringVarP(&o.chunkDict, "chunk-dict", "M", "", "bootstrap=FILE: refer to that image's chunks")
	fs.StringVarP(&o.parent, "parent-bootstrap", "p", "", "put the source on top of this image")
	fs.BoolVarP(&o.aligned, "aligned-chunk", "A", false, "start chunks at 4 KiB multiples (v5; v6 always does)")
	fs.BoolVarP(&o.repeatable, "repeatable", "R", false, "leave out owners and the time of the root")
	fs.Bool("disable-check", false, "accepted; the image is not read again after the build")
	fs.StringVarP(&o.whiteouts, "whiteout-spec", "W", "oci", "oci, overlayfs or none")
	fs.StringVarP(&o.prefetch, "prefetch-policy", "P", "none", "fs, blob or none; the paths are read from standard input")
	fs.StringVarP(&o.outputJSON, "output-json", "J", "", "file for the result as JSON")
	fs.BoolVarP(&o.encrypt, "encrypt", "E", false, "encrypt chunks (--encrypt is not supported by this builder)")
	fs.StringVar(&o.externalBlob, "external-blob", "", "blob of external data (not supported)")
	fs.StringVar(&o.attributes, "attributes", "", "attributes of external data (not supported)")
	fs.StringVar(&o.cacheDir, "blob-cache-dir", "", "directory for cache files (not supported)")
	fs.StringVar(&o.blobDataSize, "blob-data-size", "", "accepted and not needed")
	fs.StringVar(&o.blobOffset, "blob-offset", "0", "offset of the blob (0 is supported)")
	fs.StringVar(&o.backend, "backend-type", "", "accepted and not needed")
	return cmd
}

// refused names an option that is asked for and can not be had.
func (o *nydusCreate) refused() error {
	for _, c := range []struct {
		set       bool
		what, why string
	}{
		{o.encrypt, "--encrypt", "images keep their key in the bootstrap, encrypt the layers instead"},
		{o.externalBlob != "", "--external-blob", "data is always stored in the blob"},
		{o.attributes != "", "--attributes", "data is always stored in the blob"},
		{o.cacheDir != "", "--blob-cache-dir", "caches are filled when an image is mounted"},
		{o.blobOffset != "0" && o.blobOffset != "", "--blob-offset", "a blob begins at the start of its file"},
	} {
		if c.set {
			return usageError{fmt.Errorf("%s is not supported: %s", c.what, c.why)}
		}
	}
	return nil
}

// sourceKind is what --type or its old name says.
func (o *nydusCreate) sourceKind() string {
	if o.kind == "" {
		return o.sourceType
	}
	return o.kind
}

// source returns what the image is made of.
func (o *nydusCreate) source(path string) (build.Source, error) {
	kind := o.sourceKind()
	dirs := []string{"", "directory", "dir-rafs"}
	tars := []string{"tar-rafs", "targz-rafs", "targz-ref", "estargz-rafs", "tar-tarfs"}
	refs := []string{"estargz-ref", "estargztoc-ref", "stargz_index"}
	switch {
	case slices.Contains(dirs, kind):
		fi, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() {
			return nil, fmt.Errorf("%s is not a directory: give --type", path)
		}
		return build.Dir(path), nil
	case slices.Contains(tars, kind):
		return build.Tars(build.TarFile(path)), nil
	case slices.Contains(refs, kind):
		return nil, usageError{fmt.Errorf("--type %s is not supported: eStargz layers are mounted as they are, and targz-ref refers to any other", kind)}
	}
	return nil, usageError{fmt.Errorf("--type %s is not known: there are %s", kind, strings.Join(append(dirs[1:], tars...), ", "))}
}

func (o *nydusCreate) run(cmd *cobra.Command, env *Env, path string) error {
	if err := o.refused(); err != nil {
		return err
	}
	opt := build.Options{
		InlineMeta: o.inline || o.oldInline, AlignedChunk: o.aligned, Repeatable: o.repeatable, BlobID: o.blobID, Warn: warnTo(env),
	}
	var err error
	switch o.fsVersion {
	case "5", "6":
		opt.Version = int(o.fsVersion[0] - '0')
	default:
		return oneOf("fs-version", o.fsVersion, "5", "6")
	}
	switch o.features {
	case "":
	case "blob-toc":
		opt.TOC = true
	default:
		return oneOf("features", o.features, "blob-toc")
	}
	if opt.ChunkSize, err = chunkSize("--chunk-size", o.chunkSize); err != nil {
		return usageError{err}
	}
	if opt.BatchSize, err = chunkSize("--batch-size", o.batchSize); err != nil {
		return usageError{err}
	}
	if opt.Compressor, opt.Digester, err = parseCodec(o.compressor, o.digester); err != nil {
		return usageError{err}
	}
	if opt.Whiteouts, err = parseWhiteouts(o.whiteouts); err != nil {
		return usageError{err}
	}
	if err := nydusPrefetch(env, o.prefetch, &opt); err != nil {
		return err
	}
	out := build.Output{Bootstrap: o.bootstrap, Blob: o.blob, BlobDir: o.blobDir}
	switch o.sourceKind() {
	case "tar-tarfs":
		opt.Tarfs, opt.Compressor = true, storage.None
	case "targz-ref":
		opt.TargzRef, opt.Compressor = true, storage.None
	case "estargz-rafs":
		opt.Stargz = true
	}
	if out.Bootstrap == "" && !opt.InlineMeta {
		return usageError{errors.New("--bootstrap or --blob-inline-meta is needed")}
	}
	src, err := o.source(path)
	if err != nil {
		return err
	}
	done, err := openLower(&opt, o.parent, o.chunkDict)
	defer done()
	if err != nil {
		return err
	}
	spareMemory()
	res, err := build.Create(cmd.Context(), src, out, opt)
	if err != nil {
		return err
	}
	compressor := opt.Compressor
	if opt.TargzRef {
		compressor = storage.Gzip
	}
	return writeNydusOutput(o.outputJSON, res, compressor.String())
}
