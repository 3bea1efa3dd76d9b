package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
)

func newMountCmd(env *Env) *cobra.Command {
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount SOURCE DIR",
		Short: "Mount an image that has not been downloaded, a directory or an archive",
		Long: `Mount SOURCE on the directory DIR and serve it until it is unmounted or this
process is told to end. What SOURCE is, is found out or told by --type:

  docker://host/repo:tag   a RAFS image in an OCI registry; also host/repo:tag,
                           host/repo@sha256:…, or a plain name
  oci:DIR[:TAG]            an image in an OCI layout; also just DIR
  oci-archive:FILE[:TAG]   the same in a tar file; also just FILE
  FILE.boot                a bootstrap, its blobs beside it or in --blob-dir
  s3://bucket/prefix       bootstrap (image.boot) and blobs in an object store;
                           oss://bucket/prefix likewise
  https://host/dir/        the same in a directory of an HTTP server
  disk:DEVICE              the same in the partitions of a disk; also just DEVICE,
                           or a file that is like a disk
  DIR                      a directory of this machine, read and write
  FILE.zip, FILE.tar[.gz|.zst]

An image is usable at once: what is read is fetched, verified against the
image's digests and kept in the cache directory.`,
		Example: `  sluice mount docker://registry.example/python:3 /mnt/python
  sluice mount --daemonize --on-outage=error oci:./layout /mnt/image
  sluice mount source.zip /mnt/zip
  sluice mount -o ro,allow_other /srv/data /mnt/data`,
		Args: needArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runMount(cmd.Context(), env, cmd.Flags(), &f, args)
		},
	}
	f.add(cmd.Flags(), env)
	return cmd
}

// runMount mounts args[0] on args[1] and serves it to its end. f holds what
// flags have set.
func runMount(ctx context.Context, env *Env, flags *pflag.FlagSet, f *mountFlags, args []string) error {
	c, err := f.config(env)
	if err != nil {
		return err
	}
	ref, err := source.Parse(sourceArgument(env, args[0]), source.Kind(f.kind))
	if err != nil {
		return err
	}
	dir, err := mounts.Dir(env.Getenv)
	if err != nil {
		return err
	}
	if f.passthrough == "on" && ref.Kind != source.Directory && !ref.Kind.Image() {
		return usageError{fmt.Errorf("--passthrough=on is for directories and images: the files of %s do not lie whole on this machine", ref)}
	}
	if f.profile != "" && !ref.Kind.Image() {
		return usageError{fmt.Errorf("--profile is for images: %s is of type %s, of which nothing is fetched", ref, ref.Kind)}
	}
	if f.daemonize {
		return daemonize(ctx, env, flags, f, dir, ref, args)
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, endSignals()...)
	defer signal.Stop(stop)

	surviveClosedOutput()
	opening, cancel := untilEnded(ctx)
	target, err := serve.Open(opening, ref, c)
	cancel()
	if err != nil {
		return err
	}
	defer target.Close()
	for _, w := range target.Warning {
		fmt.Fprintf(env.Stderr, "sluice: %s: %s\n", ref, w)
	}
	target.Fuse.Options = append(target.Fuse.Options, f.kernel...)
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: args[1], Source: ref.Text, Type: target.Type, Dir: dir, Log: f.log,
		Fuse: target.Fuse, Logger: log.New(env.Stderr, "", log.LstdFlags), Inspect: target.Inspector(),
	})
	if err != nil {
		return err
	}
	if f.trace != "" {
		out, err := os.OpenFile(f.trace, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return errors.Join(err, m.End(ctx))
		}
		defer out.Close()
		m.Server().TraceJSON(out)
	}
	if target.Image != nil {
		target.Image.Start()
	}
	fmt.Fprintln(env.Stderr, printable(fmt.Sprintf("%s is mounted on %s (%s)", ref, m.Point(), m.Transport())))
	ready(env)
	s := statusLine{env: env, m: m}
	s.start()
	defer s.stop()
	return endOn(ctx, env, m, stop)
}

// endOn waits for the mount to end, and ends it when a signal comes.
func endOn(ctx context.Context, env *Env, m *serve.Mount, stop <-chan os.Signal) error {
	gone := make(chan struct{})
	go func() { m.Wait(); close(gone) }()
	select {
	case <-gone:
		return nil
	case <-stop:
	case <-ctx.Done():
	}
	if m.Unmount(false) == nil {
		<-gone
		return nil
	}
	return endBusy(env, m, gone, stop)
}

// busyPatience is how long those who keep a mount busy have to let go of it.
const busyPatience = 10 * time.Second

// endBusy ends a mount that is in use: it is taken out of sight, and goes
// when it is let go of, after a while, or at a second signal.
func endBusy(env *Env, m *serve.Mount, gone <-chan struct{}, stop <-chan os.Signal) error {
	fmt.Fprintf(env.Stderr, "\n%s is busy:\n", printable(m.Point()))
	if info, ok, err := mounts.Lookup(m.Point()); err == nil && ok {
		for _, u := range mounts.Users(info) {
			fmt.Fprintf(env.Stderr, "  %s\n", u)
		}
	}
	fmt.Fprintf(env.Stderr, "it is detached now and ends when they let go, in %v, or at another Ctrl-C\n", busyPatience)
	ctx, cancel := context.WithTimeout(context.Background(), busyPatience)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-gone:
		}
	}()
	err := m.End(ctx)
	<-gone
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(env.Stderr, "it was still in use: those who used it get errors from now on")
		return nil
	}
	return err
}

// statusLine shows on a terminal what a mount is doing, once per second.
type statusLine struct {
	env  *Env
	m    *serve.Mount
	quit chan struct{}
	done chan struct{}
}

func (s *statusLine) start() {
	if !isTerminal(s.env.Stderr) {
		return
	}
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			fmt.Fprintf(s.env.Stderr, "\r\x1b[K%s", statusText(s.m.Stats()))
			select {
			case <-t.C:
			case <-s.quit:
				fmt.Fprintln(s.env.Stderr)
				return
			}
		}
	}()
}

func (s *statusLine) stop() {
	if s.quit != nil {
		close(s.quit)
		<-s.done
	}
}

func statusText(s *serve.Stats) string {
	text := fmt.Sprintf("up %v, %d requests", (time.Duration(s.UptimeSeconds) * time.Second), s.Requests)
	if i := s.Image; i != nil {
		text += fmt.Sprintf(", fetched %s of %s in %d requests, %.0f %% of reads without waiting",
			bytesText(i.FetchedBytes), bytesText(i.StoredBytes), i.FetchedRequests, 100*i.HitRate)
	}
	if s.Errors > 0 {
		text += fmt.Sprintf(", %d errors", s.Errors)
	}
	return text + " - Ctrl-C ends"
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && fi.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull
}
