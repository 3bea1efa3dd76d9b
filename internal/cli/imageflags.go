package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/storage"
)

// bootstrapName is what a bootstrap is called in an output directory.
const bootstrapName = "image.boot"

// outputFlags say where an image goes.
type outputFlags struct {
	dir, bootstrap, blob, blobDir string
	push, layout                  string
	plainHTTP                     bool
	json, quiet                   bool

	temporary bool   // the files go when the image has been delivered
	digest    string // of the manifest that was delivered
}

func (f *outputFlags) add(fs *pflag.FlagSet) {
	fs.StringVarP(&f.dir, "output", "o", "", "directory for "+bootstrapName+" and the blobs, which are named by their SHA-256")
	fs.StringVar(&f.bootstrap, "bootstrap", "", "file for the bootstrap")
	fs.StringVar(&f.blob, "blob", "", "file or pipe for the blob, for images of one layer")
	fs.StringVar(&f.blobDir, "blob-dir", "", "directory for blobs, which are named by their SHA-256")
	fs.StringVar(&f.push, "push", "", "send the image to a registry under this `reference`")
	fs.StringVar(&f.layout, "layout", "", "add the image to the OCI layout in this `directory`[:tag]")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "speak HTTP to the registry")
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "no progress bar")
}

// output checks the flags. What is only pushed goes to a temporary directory
// first, which cleanup removes; output directories that it has made go too if
// they stayed empty. A signal that ends the program cleans up as well.
func (f *outputFlags) output() (out build.Output, cleanup func(), err error) {
	cleanup = func() {}
	out = build.Output{Bootstrap: f.bootstrap, Blob: f.blob, BlobDir: f.blobDir}
	named := out != build.Output{}
	switch {
	case f.dir != "" && named:
		return out, cleanup, usageError{errors.New("--output goes with none of --bootstrap, --blob, --blob-dir")}
	case f.dir == "" && !named && f.push == "" && f.layout == "":
		return out, cleanup, usageError{errors.New("say where the image goes: --output DIR, --push REFERENCE or --layout DIR")}
	}
	if f.push != "" {
		if _, err := f.reference(); err != nil {
			return out, cleanup, usageError{fmt.Errorf("--push: %w", err)}
		}
	}
	dir := f.dir
	if dir == "" && !named {
		if dir, err = os.MkdirTemp("", "sluice-image-*"); err != nil {
			return out, cleanup, err
		}
		cleanup, f.temporary = cleanAtEnd(func() { os.RemoveAll(dir) }), true
	}
	if dir != "" {
		if missing := missingDirs(dir); len(missing) > 0 {
			cleanup = cleanAtEnd(func() {
				for _, d := range missing {
					os.Remove(d) // only if nothing came of it: it is empty then
				}
			})
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return out, cleanup, err
		}
		out = build.Output{Bootstrap: filepath.Join(dir, bootstrapName), BlobDir: dir}
	}
	if (f.push != "" || f.layout != "") && out.Bootstrap == "" {
		return out, cleanup, usageError{errors.New("--push and --layout need the bootstrap: give --bootstrap FILE as well")}
	}
	return out, cleanup, nil
}

// missingDirs returns dir and those directories above it that do not exist,
// the deepest first.
func missingDirs(dir string) (missing []string) {
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return missing
		}
		missing = append(missing, dir)
	}
}

// reference is where to push to.
func (f *outputFlags) reference() (name.Reference, error) {
	var opts []name.Option
	if f.plainHTTP {
		opts = append(opts, name.Insecure)
	}
	return name.ParseReference(strings.TrimPrefix(f.push, "docker://"), opts...)
}

// deliver pushes what has been written, where that is wanted. blobs are the
// paths of all blobs of the image.
func (f *outputFlags) deliver(ctx context.Context, res *build.Result, blobs []string, config *v1.ConfigFile) error {
	if f.push == "" && f.layout == "" {
		return nil
	}
	img, err := ocirafs.New(ocirafs.Image{Bootstrap: res.Bootstrap, Blobs: blobs, Version: res.Version, Config: config})
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	f.digest = digest.String()
	if f.layout != "" {
		dir, tag := f.layout, ""
		if i := strings.LastIndexByte(dir, ':'); i > 0 && !strings.Contains(dir[i:], "/") {
			dir, tag = dir[:i], dir[i+1:]
		}
		if err := ocirafs.WriteLayout(dir, img, tag); err != nil {
			return err
		}
	}
	if f.push != "" {
		ref, err := f.reference()
		if err != nil {
			return err
		}
		return ocirafs.Push(ctx, ref, img, remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("sluice"))
	}
	return nil
}

// report prints what was written.
func (f *outputFlags) report(env *Env, res *build.Result) error {
	if f.temporary {
		res = withoutPaths(res)
	}
	if f.json {
		out := resultJSON(res)
		out.Manifest = f.digest
		return printJSON(env.Stdout, out)
	}
	w := env.Stdout
	stored := int64(0)
	for _, b := range res.Written {
		stored += b.Size
	}
	fmt.Fprintf(w, "RAFS v%d, %d inodes, %d files, %s of data\n", res.Version, res.Inodes, res.Files, bytesText(res.DataSize))
	if f.layout != "" {
		fmt.Fprintf(w, "image      oci:%s  %s\n", f.layout, f.digest)
	}
	if f.push != "" {
		fmt.Fprintf(w, "image      docker://%s  %s\n", strings.TrimPrefix(f.push, "docker://"), f.digest)
	}
	if res.Bootstrap != "" {
		fmt.Fprintf(w, "bootstrap  %s  %s\n", res.Bootstrap, bytesText(res.BootstrapSize))
	} else if f.temporary {
		fmt.Fprintf(w, "bootstrap  %s\n", bytesText(res.BootstrapSize))
	}
	for _, b := range res.Written {
		fmt.Fprintf(w, "blob       %s  %s in %d chunks\n", cmp.Or(b.Path, b.ID), bytesText(b.Size), b.Chunks)
	}
	if res.Archive != "" {
		fmt.Fprintf(w, "data       stays in the archive: keep it among the blobs as %s\n", res.Archive)
	}
	if n := len(res.Blobs) - len(res.Written); n > 0 {
		fmt.Fprintf(w, "%d more blobs are referred to\n", n)
	}
	if res.DedupChunks > 0 {
		fmt.Fprintf(w, "%d of %d chunks (%s, %.1f%% of the data) were known already\n", res.DedupChunks, res.Chunks,
			bytesText(res.DedupSize), 100*float64(res.DedupSize)/float64(max(res.DataSize, 1)))
	}
	if res.DataSize > 0 && stored > 0 && res.Archive == "" {
		fmt.Fprintf(w, "stored     %s, %.1f%% of the data\n", bytesText(stored), 100*float64(stored)/float64(res.DataSize))
	}
	return nil
}

// withoutPaths is res without the names of files that are about to go.
func withoutPaths(res *build.Result) *build.Result {
	out := *res
	out.Bootstrap = ""
	out.Written = slices.Clone(res.Written)
	for i := range out.Written {
		out.Written[i].Path = ""
	}
	return &out
}

// imageJSON is the result of a command that writes an image.
type imageJSON struct {
	Version       int        `json:"fs_version"`
	Bootstrap     string     `json:"bootstrap,omitempty"`
	BootstrapSize int64      `json:"bootstrap_size"`
	Manifest      string     `json:"manifest,omitempty"` // digest of what was pushed
	Blobs         []string   `json:"blobs"`
	Written       []blobJSON `json:"written,omitempty"`
	Archive       string     `json:"archive,omitempty"` // the blob that stays a tar.gz
	Inodes        uint64     `json:"inodes"`
	Files         uint64     `json:"files"`
	DataSize      int64      `json:"data_size"`
	Chunks        uint64     `json:"chunks,omitempty"`
	DedupChunks   uint64     `json:"dedup_chunks,omitempty"`
	DedupSize     int64      `json:"dedup_size,omitempty"`
}

type blobJSON struct {
	ID               string `json:"id"`
	Path             string `json:"path,omitempty"`
	Size             int64  `json:"size"`
	CompressedSize   int64  `json:"compressed_size"`
	UncompressedSize int64  `json:"uncompressed_size"`
	Chunks           uint32 `json:"chunks"`
}

func resultJSON(res *build.Result) imageJSON {
	out := imageJSON{
		Version: res.Version, Bootstrap: res.Bootstrap, BootstrapSize: res.BootstrapSize, Blobs: res.Blobs, Archive: res.Archive,
		Inodes: res.Inodes, Files: res.Files, DataSize: res.DataSize,
		Chunks: res.Chunks, DedupChunks: res.DedupChunks, DedupSize: res.DedupSize,
	}
	if out.Blobs == nil {
		out.Blobs = []string{}
	}
	for _, b := range res.Written {
		out.Written = append(out.Written, blobJSON{b.ID, b.Path, b.Size, b.CompressedSize, b.UncompressedSize, b.Chunks})
	}
	return out
}

// formatFlags are the settings of new images.
type formatFlags struct {
	version                       int
	chunkSize, batchSize          string
	chunking                      string
	compressor, digester          string
	level                         int
	inline, toc, nullHoles, tarfs bool
	repeatable                    bool
	whiteouts                     string
	prefetch                      []string
	dicts                         []string
	parent                        string
	parallel                      int
	memory                        string
}

func (f *formatFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.version, "fs-version", 6, "RAFS version, 6 or 5")
	fs.StringVar(&f.chunkSize, "chunk-size", "1MiB", "largest chunk, a power of two from 4KiB to 16MiB")
	fs.StringVar(&f.chunking, "chunking", "fixed", "where files are cut: fixed, or cdc: by their content, so that moved bytes are found again (v5; an extension that nydusd refuses)")
	fs.StringVar(&f.batchSize, "batch-size", "0", "compress small chunks together up to this size (0: each by itself)")
	fs.StringVar(&f.compressor, "compressor", "zstd", "none, lz4_block or zstd")
	fs.IntVar(&f.level, "level", 1, "of zstd, 1 (fastest) to 4 (smallest)")
	fs.StringVar(&f.digester, "digester", "blake3", "blake3 or sha256")
	fs.BoolVar(&f.inline, "blob-inline-meta", false, "put the bootstrap into the blob as well")
	fs.BoolVar(&f.toc, "blob-toc", false, "end the blob with a table of contents and the chunk digests")
	fs.BoolVar(&f.nullHoles, "null-holes", false, "give holes no chunk at all: smaller, but nydusd reads such files with an error")
	fs.BoolVar(&f.tarfs, "tarfs", false, "index a tar that stays as it is: the blob is the tar (with --compressor none)")
	fs.BoolVar(&f.repeatable, "repeatable", false, "leave out owners and the time of the root directory")
	fs.StringVar(&f.whiteouts, "whiteouts", "oci", "how upper layers mark what they remove: oci, overlayfs or none")
	fs.StringSliceVar(&f.prefetch, "prefetch", nil, "fetch these `paths` first when the image is mounted; / means all")
	fs.StringSliceVar(&f.dicts, "chunk-dict", nil, "refer to the chunks of these `bootstraps`, do not store them again")
	fs.StringVar(&f.parent, "parent-bootstrap", "", "put the source on top of this image")
	fs.IntVar(&f.parallel, "parallel", 0, "workers (0: one for each CPU); the image does not depend on it")
	fs.StringVar(&f.memory, "memory", "256MiB", "most memory for buffers")
}

// options checks the flags. close gives back the images that were opened.
func (f *formatFlags) options(env *Env) (opt build.Options, close func(), err error) {
	var trees []image.Tree
	close = func() {
		for _, t := range trees {
			t.Close()
		}
	}
	usage := func(err error) (build.Options, func(), error) { return opt, close, usageError{err} }
	opt = build.Options{
		Version: f.version, Level: f.level, InlineMeta: f.inline, TOC: f.toc, NullHoles: f.nullHoles, Tarfs: f.tarfs,
		Repeatable: f.repeatable, PrefetchPaths: f.prefetch, Parallel: f.parallel,
		Warn: warnTo(env),
	}
	if len(f.prefetch) > 0 {
		opt.Prefetch = build.PrefetchFS
	}
	if opt.ChunkSize, err = chunkSize("--chunk-size", f.chunkSize); err != nil {
		return usage(err)
	}
	if opt.BatchSize, err = chunkSize("--batch-size", f.batchSize); err != nil {
		return usage(err)
	}
	if opt.Memory, err = parseSize(f.memory); err != nil {
		return usage(fmt.Errorf("--memory: %w", err))
	}
	switch f.chunking {
	case "fixed":
	case "cdc":
		opt.Chunking = build.ContentChunks
	default:
		return usage(fmt.Errorf("--chunking is %q: want one of fixed, cdc", f.chunking))
	}
	if opt.Compressor, opt.Digester, err = parseCodec(f.compressor, f.digester); err != nil {
		return usage(err)
	}
	if opt.Whiteouts, err = parseWhiteouts(f.whiteouts); err != nil {
		return usage(err)
	}
	open := func(path string) (image.Tree, error) {
		t, err := detect.Open(path, nil)
		if err == nil {
			trees = append(trees, t)
		}
		return t, err
	}
	if f.parent != "" {
		if opt.Parent, err = open(f.parent); err != nil {
			return opt, close, err
		}
	}
	for _, d := range f.dicts {
		t, err := open(d)
		if err != nil {
			return opt, close, err
		}
		opt.Dicts = append(opt.Dicts, t)
	}
	return opt, close, nil
}

// prepare checks both sets of flags; done gives back what it opened.
func prepare(env *Env, format *formatFlags, out *outputFlags) (opt build.Options, dst build.Output, done func(), err error) {
	opt, closeTrees, err := format.options(env)
	if err != nil {
		closeTrees()
		return opt, dst, func() {}, err
	}
	dst, cleanup, err := out.output()
	spareMemory()
	return opt, dst, func() { cleanup(); closeTrees() }, err
}

// spareMemory has the collector let garbage grow to a quarter of what is in
// use, not to all of it, unless GOGC says something else. Those who make images
// keep millions of small records and leave little garbage, so this costs
// nearly nothing.
func spareMemory() {
	const usual, spare = 100, 25
	if old := debug.SetGCPercent(spare); old != usual {
		debug.SetGCPercent(old)
	}
}

// chunkSize reads a size that fits 32 bits; 0x begins a hexadecimal number.
func chunkSize(flag, s string) (uint32, error) {
	if n, err := strconv.ParseUint(s, 0, 32); err == nil {
		return uint32(n), nil
	}
	n, err := parseSize(s)
	if err != nil || n > 1<<31 {
		return 0, fmt.Errorf("%s: %q is not a size", flag, s)
	}
	return uint32(n), nil
}

func parseCodec(compressor, digester string) (c storage.Compressor, d storage.Algorithm, err error) {
	switch compressor {
	case "none":
		c = storage.None
	case "lz4_block", "lz4":
		c = storage.LZ4Block
	case "zstd":
		c = storage.Zstd
	default:
		return c, d, fmt.Errorf("--compressor is %q: want one of none, lz4_block, zstd", compressor)
	}
	switch digester {
	case "blake3":
		d = storage.BLAKE3
	case "sha256":
		d = storage.SHA256
	default:
		return c, d, fmt.Errorf("--digester is %q: want one of blake3, sha256", digester)
	}
	return c, d, nil
}

func parseWhiteouts(s string) (build.Whiteouts, error) {
	switch s {
	case "oci":
		return build.WhiteoutsOCI, nil
	case "overlayfs":
		return build.WhiteoutsOverlayfs, nil
	case "none":
		return build.WhiteoutsNone, nil
	}
	return 0, fmt.Errorf("whiteouts are %q: want one of oci, overlayfs, none", s)
}

// openWithBlobs opens the image at path, and its blobs as blobsBeside does.
func openWithBlobs(ctx context.Context, path, blobDir string) (image.Tree, blobStore, error) {
	tree, err := detect.Open(path, nil)
	if err != nil {
		return nil, nil, err
	}
	blobs, err := blobsBeside(path, blobDir)
	if err == nil {
		if m, ok := tree.(image.MetaLoader); ok {
			if err = m.LoadMeta(ctx, blobs); err != nil {
				blobs.Close()
			}
		}
	}
	if err != nil {
		tree.Close()
		return nil, nil, err
	}
	return tree, blobs, nil
}
