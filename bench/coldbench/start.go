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

// row measures a kind of start and prints its medians.
func (b *bench) row(ctx context.Context, what, profile string) (time.Duration, error) {
	var times []time.Duration
	var last result
	for range *runsFlag {
		r, err := b.start(ctx, profile, "")
		if err != nil {
			return 0, err
		}
		times = append(times, r.first)
		last = r
	}
	floor := 10 * *rttFlag
	if *rateFlag > 0 {
		floor += time.Duration(float64(last.stats.TouchedBytes) * 8 / *rateFlag * float64(time.Second))
	}
	s := last.stats
	fmt.Printf("| %s | %.0f ms | %.0f ms | %.2f | %s | %s | %.2f | %d |\n", what,
		ms(median(times)), ms(floor), float64(median(times))/float64(floor),
		mib(s.TouchedBytes), mib(s.FetchedBytes), float64(s.FetchedBytes)/float64(s.TouchedBytes), s.FetchedRequests)
	return median(times), nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// open opens the image with an empty cache.
func (b *bench) open(ctx context.Context, c serve.Config) (*serve.Target, error) {
	dir, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return nil, err
	}
	ref, err := source.Parse(b.ref, source.Auto)
	if err != nil {
		return nil, err
	}
	c.Source.CacheDir, c.Prefetch, c.Log = dir, "none", slog.New(slog.DiscardHandler)
	return serve.Open(ctx, ref, c)
}

// mount mounts an image that is open.
func (b *bench) mount(target *serve.Target) (*serve.Mount, error) {
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
func (b *bench) start(ctx context.Context, profile, record string) (result, error) {
	var line timeline
	begin := time.Now()
	target, err := b.open(ctx, serve.Config{Profile: profile, Record: record != "", Fetch: cache.ReaderOptions{Trace: line.add}})
	if err != nil {
		return result{}, err
	}
	defer target.Close()
	opened := time.Since(begin)
	env := []string{"PATH=/usr/local/go/bin:/usr/bin:/bin", "HOME=/root"}
	if profile == "" {
		target.Image.WillRun(b.cmd, env)
	}
	m, err := b.mount(target)
	if err != nil {
		return result{}, err
	}
	mounted := time.Since(begin)
	var out bytes.Buffer
	res, err := sandbox.Run(ctx, sandbox.Config{
		Root: m.Point(), Args: b.cmd, Env: env,
	}, sandbox.Streams{Stdout: &out, Stderr: &out})
	var s serve.Stats
	target.Image.Stats(&s)
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(err, m.End(ending))
	if err == nil && (res.ExitCode != 0 || res.FirstOutput == 0) {
		err = fmt.Errorf("command: exit code %d, output %q", res.ExitCode, out.String())
	}
	if err == nil && record != "" {
		p, perr := target.Image.Profile()
		if perr == nil {
			perr = p.Save(record)
		}
		err = perr
	}
	r := result{opened, mounted, mounted + res.FirstOutput, s.Image}
	if *traceFlag {
		line.print(os.Stderr, begin, r)
	}
	return r, err
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
