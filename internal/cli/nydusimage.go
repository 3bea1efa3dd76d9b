package cli

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
)

// newNydusImageCmd returns the program as "nydus-image": its subcommands,
// options and JSON outputs, for programs that run it.
func newNydusImageCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nydus-image",
		Short:   "Make and look into RAFS images, with the command line of nydus-image",
		Version: Version,
		Args:    groupArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetVersionTemplate("Version: \t{{.Version}}\nBuilder: \tsluice\n")
	fs := cmd.PersistentFlags()
	logFile := fs.StringP("log-file", "o", "", "file that warnings and errors are appended to, beside standard error")
	fs.StringP("log-level", "l", "info", "log level: trace, debug, info, warn, error")
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return logTo(env, *logFile) }
	cmd.AddCommand(
		newNydusCheckCmd(env),
		newNydusCreateCmd(env),
		newNydusInspectCmd(env),
		newNydusMergeCmd(env),
		newNydusExportCmd(env),
		newNydusCompactCmd(env),
		newNydusOptimizeCmd(env),
		newNydusStatCmd(env),
		newNydusUnpackCmd(env),
		newNydusChunkDictCmd(),
	)
	return cmd
}

// logTo has what goes to standard error from here on appended to the file at
// path as well, unless that is "". The file is open until the program ends.
func logTo(env *Env, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	env.Stderr = io.MultiWriter(env.Stderr, f)
	return nil
}

// newNydusChunkDictCmd says what to do in place of "chunkdict generate",
// which picks chunks from many images.
func newNydusChunkDictCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "chunkdict",
		Short:              "Chunk dictionaries (not supported: any bootstrap is one)",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("chunkdict generate is not supported: any bootstrap is a dictionary, give it as --chunk-dict bootstrap=FILE; merge makes one of several")}
		},
	}
}

// nydusOutput is what --output-json writes.
type nydusOutput struct {
	Version       string            `json:"version"`
	Bootstrap     string            `json:"bootstrap"`
	Blobs         []string          `json:"blobs"`
	ExternalBlobs []string          `json:"external_blobs"`
	Trace         map[string]uint64 `json:"trace"`
	FsVersion     string            `json:"fs_version"`
	Compressor    string            `json:"compressor"`
}

// writeNydusOutput writes the result to path, unless that is "".
func writeNydusOutput(path string, res *build.Result, compressor string) error {
	if path == "" {
		return nil
	}
	out := nydusOutput{
		Version: Version, Bootstrap: res.Bootstrap, Blobs: res.Blobs, ExternalBlobs: []string{},
		FsVersion: fmt.Sprint(res.Version), Compressor: compressor,
		Trace: map[string]uint64{
			"inodes": res.Inodes, "files": res.Files, "chunks": res.Chunks, "dedup_chunks": res.DedupChunks,
			"dedup_decompressed_size": uint64(res.DedupSize), "decompressed_size": uint64(res.DataSize),
		},
	}
	if out.Blobs == nil {
		out.Blobs = []string{}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := printJSON(f, out); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// nydusPrefetch reads the policy and, where there is one, the list of paths
// from standard input.
func nydusPrefetch(env *Env, policy string, opt *build.Options) error {
	switch policy {
	case "none", "":
		return nil
	case "fs":
		opt.Prefetch = build.PrefetchFS
	case "blob":
		opt.Prefetch = build.PrefetchBlob
	default:
		return oneOf("prefetch-policy", policy, "fs", "blob", "none")
	}
	lines := bufio.NewScanner(io.LimitReader(env.Stdin, 16<<20))
	for lines.Scan() {
		p := strings.TrimSpace(lines.Text())
		if p == "" {
			continue
		}
		if !strings.HasPrefix(p, "/") {
			return usageError{fmt.Errorf("prefetch path %q does not begin with /", p)}
		}
		opt.PrefetchPaths = append(opt.PrefetchPaths, p)
	}
	return lines.Err()
}

// openDict opens what --chunk-dict names: a path, or bootstrap=PATH.
func openDict(arg string) (image.Tree, error) {
	kind, path, ok := strings.Cut(arg, "=")
	if !ok {
		kind, path = "bootstrap", arg
	}
	if kind != "bootstrap" {
		return nil, usageError{fmt.Errorf("--chunk-dict of kind %q is not supported: bootstrap is", kind)}
	}
	return detect.Open(path, nil)
}

// openLower opens the parent and the dictionary, where they are named, into
// opt. done closes them.
func openLower(opt *build.Options, parent, dict string) (done func(), err error) {
	var trees []image.Tree
	done = func() {
		for _, t := range trees {
			t.Close()
		}
	}
	if parent != "" {
		if opt.Parent, err = detect.Open(parent, nil); err != nil {
			return done, err
		}
		trees = append(trees, opt.Parent)
	}
	if dict != "" {
		d, err := openDict(dict)
		if err != nil {
			return done, err
		}
		trees = append(trees, d)
		opt.Dicts = append(opt.Dicts, d)
	}
	return done, nil
}

// warnTo is where warnings go.
func warnTo(env *Env) func(string) {
	return func(s string) { fmt.Fprintln(env.Stderr, "warning:", s) }
}

// hexDigest reads the hex form of a SHA-256.
func hexDigest(flag, s string) (sum [32]byte, err error) {
	if n, err := hex.Decode(sum[:], []byte(s)); err != nil || n != len(sum) || len(s) != 2*len(sum) {
		return sum, usageError{fmt.Errorf("--%s: %q is not a SHA-256", flag, s)}
	}
	return sum, nil
}
