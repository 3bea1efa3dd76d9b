package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/demo"
	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/sandbox"
)

func newDemoCmd(env *Env) *cobra.Command {
	var asJSON, verbose bool
	var goroot, io string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine in one go",
		Long: `Pack the Go distribution of this machine into an image, push it to a registry
on loopback, mount it from there without downloading it, run the mounted
"go version", compile a small program with the mounted toolchain, and compare
with downloading and unpacking the image. It takes less than a minute, 600 MiB
in the directory for temporary files (TMPDIR), and leaves nothing behind.`,
		Example: "  sluice demo",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("io", io, "auto", "classic", "uring"); err != nil {
				return err
			}
			surviveClosedOutput()
			ctx, cancel := untilEnded(cmd.Context())
			defer cancel()
			if why := demo.Missing(); why != "" {
				return errors.New(why)
			}
			if os.Geteuid() != 0 && env.Getenv(inNamespace) == "" {
				code, err := sandbox.AsRoot(ctx, os.Args, inNamespace, nil)
				if err != nil {
					return err
				}
				if code != exitDone {
					return exitError{code}
				}
				return nil
			}
			return runDemo(ctx, env, goroot, io, asJSON, verbose)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the log of the mount")
	cmd.Flags().StringVar(&goroot, "goroot", "", "Go distribution to pack (default: that of the go command)")
	cmd.Flags().StringVar(&io, "io", "auto", "way of requests: auto, classic, uring")
	return cmd
}

func runDemo(ctx context.Context, env *Env, goroot, way string, asJSON, verbose bool) error {
	if goroot == "" {
		var err error
		if goroot, err = findGoroot(ctx); err != nil {
			return err
		}
	}
	base, err := mounts.NewScratch("sluice-demo-")
	if err != nil {
		return err
	}
	p := &progress{w: env.Stderr, live: isTerminal(env.Stderr)}
	o := demo.Options{GOROOT: goroot, Dir: filepath.Join(base.Path, "demo"), Transport: way, Progress: p}
	if verbose {
		o.Log = env.Stderr
	}
	r, err := demo.Run(ctx, o)
	p.end()
	err = errors.Join(err, base.Remove())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(env.Stdout, r)
	}
	return printDemo(env.Stdout, r)
}

// findGoroot asks the go command where its distribution is.
func findGoroot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return filepath.EvalSymlinks(dir)
	}
	const usual = "/usr/local/go" // where Go's own instructions put it
	if demo.CheckTree(usual) == nil {
		return usual, nil
	}
	return "", errors.New("the go command is not in PATH: the demonstration packs the Go distribution (--goroot says where one is)")
}

// progress shows steps, on a terminal with a share of bytes.
type progress struct {
	w     io.Writer
	live  bool
	what  string
	total int64
	done  int64
	start time.Time
	shown time.Time
}

func (p *progress) Step(what string, total int64) {
	if what == p.what { // the same step has learnt its total
		p.total = total
		return
	}
	p.end()
	p.what, p.total, p.done, p.start = what, total, 0, time.Now()
	if p.live {
		p.draw()
		return
	}
	fmt.Fprintf(p.w, "%s ...\n", what)
}

func (p *progress) Add(n int64) {
	p.done += n
	if p.live && time.Since(p.shown) > 100*time.Millisecond {
		p.draw()
	}
}

func (p *progress) draw() {
	p.shown = time.Now()
	text := p.what + " ..."
	if p.total > 0 {
		text += fmt.Sprintf(" %s of %s", bytesText(p.done), bytesText(p.total))
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// end ends the line of the current step.
func (p *progress) end() {
	if p.live && p.what != "" {
		fmt.Fprintf(p.w, "\r\x1b[K%s: %s\n", p.what, durationText(time.Since(p.start)))
	}
	p.what = ""
}

func printDemo(w io.Writer, r *demo.Report) error {
	share := func(n int64) string {
		return fmt.Sprintf("%s (%.1f %%)", bytesText(n), 100*float64(n)/float64(max(r.BlobBytes, 1)))
	}
	fmt.Fprintf(w, "\nmounted go says: %s\nprogram says:    %s\n\n", r.Version, r.Output)
	whole := r.Download + r.Unpack
	rows := [][]string{
		{"", "LAZY MOUNT", "DOWNLOAD + UNPACK"},
		{"ready to use after", durationText(r.Ready), durationText(whole)},
		{"first output (go version) after", durationText(r.FirstOutput), durationText(whole) + " and more"},
		{"fetched until then", share(r.FirstFetched), share(r.BlobBytes)},
		{"requests until then", fmt.Sprint(r.FirstRequests), "-"},
		{"compiling and running a program", durationText(r.Compile), "-"},
		{"fetched in all", share(r.Fetched), share(r.BlobBytes)},
		{"requests in all", fmt.Sprint(r.Requests), "-"},
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nimage: %d files and directories, %s, stored in %s (metadata %s); packed in %s\nrequests came by %s; every chunk was verified; all done in %s\n",
		r.Inodes, bytesText(r.DataBytes), bytesText(r.ImageBytes), bytesText(r.ImageBytes-r.BlobBytes), durationText(r.Pack), r.Transport, durationText(r.Total))
	return err
}
