package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/sandbox"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
)

// runFlags are those of run and record.
type runFlags struct {
	sourceFlags
	env        []string
	workdir    string
	state      string
	hostname   string
	quiet      bool
	readOnly   bool
	userName   string
	profileOut string // file that record writes
}

// check looks at what can be said before anything is fetched or run.
func (f *runFlags) check() (err error) {
	if u, g, both := strings.Cut(f.userName, ":"); f.userName != "" && (u == "" || both && g == "") || strings.ContainsAny(f.userName, "\n/ ") {
		return usageError{fmt.Errorf("--user %s: want USER or USER:GROUP, names or numbers", f.userName)}
	}
	for _, e := range f.env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return usageError{fmt.Errorf("--env %s: want NAME=VALUE", e)}
		}
	}
	if f.profileOut == "" {
		return nil
	}
	try, err := os.CreateTemp(filepath.Dir(f.profileOut), ".sluice-profile-")
	if err != nil {
		return fmt.Errorf("--output %s cannot be written: %w", f.profileOut, err)
	}
	return errors.Join(try.Close(), os.Remove(try.Name()))
}

func (f *runFlags) addRun(cmd *cobra.Command, env *Env) {
	fs := cmd.Flags()
	f.add(fs, env)
	fs.StringArrayVarP(&f.env, "env", "e", nil, "set a variable NAME=VALUE of the command's environment")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "working directory in the image (default: what the image says)")
	fs.StringVar(&f.state, "state", "", "directory that keeps what the command writes (default: memory, dropped at the end)")
	fs.StringVar(&f.hostname, "hostname", "", "host name that the command sees (default: the machine's)")
	fs.BoolVar(&f.readOnly, "read-only", false, "no writable overlay")
	fs.StringVarP(&f.userName, "user", "u", "", "user to run as, USER[:GROUP], names of the image or numbers (default: what the image says)")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "do not say at the end what was fetched")
	// What stands behind the command's name is the command's.
	fs.SetInterspersed(false)
}

func newRunCmd(env *Env) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run REF [--] [COMMAND [ARG...]]",
		Short: "Run a command in an image that has not been downloaded",
		Long: `Run a command with the image as its root, in namespaces of its own, with a
writable overlay on top that is dropped at the end. Without a command the
image's own entry point is run. At the end it says how long the first output
took, and how much of the image was fetched. The exit code is the command's.

It is for trying images out: the network is the host's, and nothing limits
what the command may use. Without root it needs user namespaces, and for
images with more users than root newuidmap and the user's line in /etc/subuid
and /etc/subgid.`,
		Example: `  sluice run docker://registry.example/python:3 -- python3 -c 'print(1)'
  sluice run oci:./layout -- sh -c 'ls /; id'`,
		Args: needArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			command, err := commandLine(cmd.Flags(), args[1:])
			if err != nil {
				return err
			}
			return runOrReexec(cmd.Context(), env, &f, args[0], command)
		},
	}
	f.addRun(cmd, env)
	return cmd
}

func newRecordCmd(env *Env) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "record REF [--] [COMMAND [ARG...]]",
		Short: "Record what a command reads of an image",
		Long: `Run a command as "sluice run" does and write a profile: the ranges of files
that it read, in order. A mount with --profile fetches them ahead of the reads,
and "sluice image optimize" writes an image in which they lie together.`,
		Example: `  sluice record --output python.json docker://registry.example/python:3 -- python3 -c 'print(1)'
  sluice mount --profile python.json docker://registry.example/python:3 /mnt/python`,
		Args: needArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			command, err := commandLine(cmd.Flags(), args[1:])
			if err != nil {
				return err
			}
			return runOrReexec(cmd.Context(), env, &f, args[0], command)
		},
	}
	f.addRun(cmd, env)
	cmd.Flags().StringVarP(&f.profileOut, "output", "o", "profile.json", "file to write the profile to")
	return cmd
}

// commandLine splits what stands behind the image into more flags of ours, up
// to "--" or the first word that is none, and the command.
func commandLine(flags *pflag.FlagSet, rest []string) ([]string, error) {
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "-") {
		return rest, nil
	}
	if err := flags.Parse(rest); err != nil {
		return nil, usageError{err}
	}
	return flags.Args(), nil
}

// runOrReexec runs a command in the image that text names, in a user namespace
// where this user may not mount.
func runOrReexec(ctx context.Context, env *Env, f *runFlags, text string, command []string) error {
	if err := f.check(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		code, err := sandbox.AsRoot(ctx, os.Args, inNamespace, func(why error) {
			if !f.quiet {
				fmt.Fprintf(env.Stderr, "sluice: no users but root in the image, and programs that become others (apt, su) will fail: %v\n", why)
			}
		})
		if err == nil && code != exitDone {
			err = exitError{code}
		}
		return err
	}
	ref, err := source.Parse(text, source.Kind(f.kind))
	if err != nil {
		return err
	}
	if !ref.Kind.Image() {
		return usageError{fmt.Errorf("%s is of type %s: an image is needed", ref, ref.Kind)}
	}
	c, err := f.config(env)
	if err != nil {
		return err
	}
	c.Record = f.profileOut != ""
	surviveClosedOutput()
	caller := ctx
	ctx, cancel := untilEnded(ctx)
	defer cancel()
	base, err := mounts.NewScratch("sluice-run-")
	if err != nil {
		return err
	}
	defer base.Remove()
	point := filepath.Join(base.Path, "image")
	if err := os.Mkdir(point, 0o700); err != nil {
		return err
	}
	start := time.Now()
	target, err := serve.Open(ctx, ref, c)
	if err != nil {
		return err
	}
	defer target.Close()
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: point, Source: ref.Text, Type: target.Type, Fuse: target.Fuse,
		Logger: log.New(env.Stderr, "", log.LstdFlags), Inspect: target.Inspector(),
	})
	if err != nil {
		return err
	}
	target.Image.Start()
	mounted := time.Since(start)
	conf, err := commandOf(target.Image.Image.Config, command, f)
	var res sandbox.Result
	if err == nil {
		conf.Root = m.Point()
		target.Image.WillRun(conf.Args, conf.Env)
		streams, stop := streamsOf(env)
		if err = ctx.Err(); err == nil {
			cancel() // from here on the command decides what a signal means
			res, err = sandbox.Run(caller, conf, streams)
		}
		stop()
	}
	var stats serve.Stats
	target.Image.Stats(&stats)
	ending, stop := context.WithTimeout(context.Background(), busyPatience)
	defer stop()
	err = errors.Join(err, m.End(ending))
	if err == nil && f.profileOut != "" {
		err = saveProfile(env, target.Image, conf.Args, f.profileOut)
	}
	if err != nil {
		return err
	}
	if !f.quiet {
		printRun(env.Stderr, mounted, res, stats.Image)
	}
	if res.ExitCode != 0 {
		return exitError{res.ExitCode}
	}
	return nil
}

func saveProfile(env *Env, i *serve.ImageFS, command []string, path string) error {
	p, err := i.Profile()
	if err != nil {
		return err
	}
	p.Command = command
	if err := p.Save(path); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	fmt.Fprintf(env.Stderr, "profile: %d reads in %s\n", len(p.Reads), path)
	return nil
}

func printRun(w io.Writer, mounted time.Duration, res sandbox.Result, i *serve.ImageStats) {
	first := "no output"
	if res.FirstOutput > 0 {
		first = "first output after " + durationText(mounted+res.FirstOutput)
	}
	share := ""
	if i.StoredBytes > 0 {
		share = fmt.Sprintf(" of %s (%.1f %%)", bytesText(i.StoredBytes), 100*float64(i.FetchedBytes)/float64(i.StoredBytes))
	}
	fmt.Fprintf(w, "sluice: mounted in %s, %s, ended after %s; fetched %s%s in %d requests\n",
		durationText(mounted), first, durationText(mounted+res.Total), bytesText(i.FetchedBytes), share, i.FetchedRequests)
}

// streamsOf joins a command with the terminal that this process has, if it has
// one for input and output, and with the signals that come in until stop is
// called.
func streamsOf(env *Env) (s sandbox.Streams, stop func()) {
	in := stdinFile(env)
	out, _ := inherited(env.Stdout).(*os.File)
	s = sandbox.Streams{Stdin: in, Stdout: env.Stdout, Stderr: env.Stderr, Terminal: sandbox.IsTerminal(in) && sandbox.IsTerminal(out)}
	signals := make(chan os.Signal, 16)
	s.Signals = signals
	shared := in
	if s.Terminal {
		shared = nil // a terminal of its own: nothing comes to both
	}
	if both := sandbox.FromTerminal(shared); len(both) > 0 {
		signal.Notify(make(chan os.Signal, 1), both...)
	}
	signal.Notify(signals, sandbox.ForwardedFrom(shared)...)
	return s, func() { signal.Stop(signals) }
}

// commandOf puts together what to run from what the image says and what the
// user wants.
func commandOf(image v1.Config, args []string, f *runFlags) (sandbox.Config, error) {
	c := sandbox.Config{
		User: f.userName, UserOptional: f.userName == "",
		Args: args, Dir: f.workdir, State: f.state, ReadOnly: f.readOnly, Hostname: f.hostname,
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, image.Env...),
	}
	if term := os.Getenv("TERM"); term != "" {
		c.Env = append(c.Env, "TERM="+term)
	}
	c.Env = append(c.Env, f.env...)
	c.Env = lastOfEach(c.Env)
	if len(c.Args) == 0 {
		c.Args = append(append([]string{}, image.Entrypoint...), image.Cmd...)
	}
	if len(c.Args) == 0 {
		return c, usageError{errors.New("the image does not say what to run: give a command")}
	}
	if c.Dir == "" {
		c.Dir = image.WorkingDir
	}
	if c.User == "" {
		c.User = image.User
	}
	if c.State != "" {
		abs, err := filepath.Abs(c.State)
		if err != nil {
			return c, err
		}
		c.State = abs
	}
	return c, nil
}

// lastOfEach keeps the last of the variables with one name.
func lastOfEach(env []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, e := range slices.Backward(env) {
		name, _, _ := strings.Cut(e, "=")
		if !seen[name] {
			seen[name] = true
			out = append(out, e)
		}
	}
	slices.Reverse(out)
	return out
}

// stdinFile is the command's standard input, if it is a file.
func stdinFile(env *Env) *os.File {
	f, _ := env.Stdin.(*os.File)
	return f
}
