package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/sluicefs/sluice/internal/sandbox"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage/cache"
)

type result struct {
	opened, mounted, first time.Duration // since the first request
	stats                  *serve.ImageStats
}

// way is how an image is started.
type way struct {
	profile string // fetched ahead by
	record  string // where a profile goes
	plain   bool   // mounted as "sluice mount" does, which does not know what will run
}

// row measures a kind of start and prints its medians.
func (b *bench) row(ctx context.Context, what string, w way) error {
	var times []time.Duration
	var last result
	for range *runsFlag {
		r, err := b.start(ctx, w)
		if err != nil {
			return err
		}
		times = append(times, r.first)
		last = r
	}
	floor := 10 * *rttFlag
	if *rateFlag > 0 {
		floor += time.Duration(float64(last.stats.TouchedBytes) * 8 / *rateFlag * float64(time.Second))
	}
	s := last.stats
	ratio := "" // to nothing, on a line without limits
	if floor > 0 {
		ratio = fmt.Sprintf("%.2f", float64(median(times))/float64(floor))
	}
	fmt.Printf("| %s | %.0f ms | %.0f ms | %s | %s | %s | %.2f | %d |\n", what, ms(median(times)), ms(floor), ratio,
		mib(s.TouchedBytes), mib(s.FetchedBytes), float64(s.FetchedBytes)/float64(s.TouchedBytes), s.FetchedRequests)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// opened is an image with a cache of its own.
type opened struct {
	*serve.Target
	cache string
}

// Close removes the cache too: what is written of one run must not be in the
// way of the next.
func (o *opened) Close() error {
	return errors.Join(o.Target.Close(), os.RemoveAll(o.cache))
}

// open opens the image that text refers to with an empty cache.
func (b *bench) open(ctx context.Context, text string, c serve.Config) (*opened, error) {
	dir, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return nil, err
	}
	ref, err := source.Parse(text, source.Auto)
	if err != nil {
		return nil, err
	}
	c.Source.CacheDir, c.Prefetch, c.Log = dir, "none", slog.New(slog.DiscardHandler)
	t, err := serve.Open(ctx, ref, c)
	if err != nil {
		return nil, err
	}
	return &opened{t, dir}, nil
}

// mount mounts an image that is open.
func (b *bench) mount(target *opened) (*serve.Mount, error) {
	point, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: point, Source: b.ref, Type: "image", Fuse: target.Fuse, Logger: log.New(io.Discard, "", 0),
	})
	if err == nil {
		target.Image.Start()
	}
	return m, err
}

// start mounts the image with an empty cache, runs the command, and returns
// how long the first output took from the beginning.
func (b *bench) start(ctx context.Context, w way) (result, error) {
	var line timeline
	b.asked.reset()
	begin := time.Now()
	target, err := b.open(ctx, b.ref, serve.Config{Profile: w.profile, Record: w.record != "", Fetch: cache.ReaderOptions{Trace: line.add}})
	if err != nil {
		return result{}, err
	}
	defer target.Close()
	opened := time.Since(begin)
	if !w.plain && w.profile == "" {
		target.Image.WillRun(b.cmd, env)
	}
	m, err := b.mount(target)
	if err != nil {
		return result{}, err
	}
	mounted := time.Since(begin)
	first, err := b.run(ctx, m.Point(), w.plain)
	var s serve.Stats
	target.Image.Stats(&s)
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(err, m.End(ending))
	if err == nil && w.record != "" {
		p, perr := target.Image.Profile()
		if perr == nil {
			perr = p.Save(w.record)
		}
		if *traceFlag && perr == nil {
			for _, read := range p.Reads {
				fmt.Fprintf(os.Stderr, "%s %d+%d\n", read.Path, read.Offset, read.Length)
			}
		}
		err = perr
	}
	r := result{opened, mounted, mounted + first, s.Image}
	if *traceFlag {
		line.print(os.Stderr, begin, r)
		b.asked.print(os.Stderr, begin)
	}
	return r, err
}

// env is the environment of the command.
var env = []string{"PATH=/usr/local/go/bin:/usr/bin:/bin", "HOME=/root"}

// run runs the command with the mount at point as its root, and returns how
// long its first output took: in namespaces of its own as "sluice run" does,
// or in a plain mount by chroot(8).
func (b *bench) run(ctx context.Context, point string, plain bool) (time.Duration, error) {
	if plain {
		return b.chroot(ctx, point)
	}
	var out bytes.Buffer
	res, err := sandbox.Run(ctx, sandbox.Config{Root: point, Args: b.cmd, Env: env}, sandbox.Streams{Stdout: &out, Stderr: &out})
	if err == nil && (res.ExitCode != 0 || res.FirstOutput == 0) {
		err = fmt.Errorf("command: exit code %d, output %q", res.ExitCode, out.String())
	}
	return res.FirstOutput, err
}

func (b *bench) chroot(ctx context.Context, point string) (first time.Duration, err error) {
	begin := time.Now()
	c := exec.CommandContext(ctx, "chroot", append([]string{point}, b.cmd...)...)
	c.Env = env
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return 0, err
	}
	n, err := io.ReadAtLeast(out, make([]byte, 512), 1)
	first = time.Since(begin)
	_, _ = io.Copy(io.Discard, out)
	if werr := c.Wait(); werr != nil || n == 0 {
		return 0, fmt.Errorf("command: %w, output %q", errors.Join(err, werr), errs.String())
	}
	return first, nil
}

// timeline keeps what a mount fetched.
type timeline struct {
	mu  sync.Mutex
	all []cache.Fetch
}

func (t *timeline) add(f cache.Fetch) {
	t.mu.Lock()
	t.all = append(t.all, f)
	t.mu.Unlock()
}

// print shows the fetches in the order in which they began, in milliseconds
// since begin.
func (t *timeline) print(w io.Writer, begin time.Time, r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.all, func(a, b cache.Fetch) int { return a.Start.Compare(b.Start) })
	fmt.Fprintf(w, "opened %.1f, mounted %.1f, first output %.1f\n", ms(r.opened), ms(r.mounted), ms(r.first))
	for _, f := range t.all {
		at := f.Start.Sub(begin)
		fmt.Fprintf(w, "%8.1f %8.1f %-8s %10d %8d\n", ms(at), ms(at+f.Duration), f.Cause, f.Offset, f.Size)
	}
}

// sum shows how much was fetched for which reason.
func (t *timeline) sum(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bytes := map[string]int64{}
	for _, f := range t.all {
		bytes[f.Cause] += f.Size
	}
	fmt.Fprintln(w, "bytes fetched:", bytes)
}
