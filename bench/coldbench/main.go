// Command coldbench measures cold starts: a command in an image that is
// mounted lazily from a registry behind a line of a given bandwidth and round
// trip, beside the floor (the time that moving just the touched bytes takes,
// and ten round trips) and beside downloading and unpacking the image.
//
//	go run ./coldbench -source DIR -- python3 -c 'print(1)'
//
// It needs root.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/image/unpack"
	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/sandbox"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
)

var (
	dirFlag   = flag.String("source", "", "root file system to make the image of")
	rateFlag  = flag.Float64("rate", 100e6, "bandwidth, bits per second; 0 is unlimited")
	rttFlag   = flag.Duration("rtt", 10*time.Millisecond, "round trip")
	runsFlag  = flag.Int("runs", 5, "runs of each kind")
	chunkFlag = flag.Uint("chunk", 1<<20, "largest chunk, bytes")
	traceFlag = flag.Bool("trace", false, "log the requests that reach the registry")
	skipFlag  = flag.Bool("skip-download", false, "leave out downloading and unpacking the whole")
)

func main() {
	if filepath.Base(os.Args[0]) == sandbox.InitName {
		os.Exit(sandbox.Init())
	}
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	dir  string
	ref  string
	res  *build.Result
	cmd  []string
	line *shaper
}

func run(ctx context.Context) error {
	if *dirFlag == "" || flag.NArg() == 0 {
		return errors.New("usage: coldbench -source DIR -- COMMAND")
	}
	dir, err := os.MkdirTemp("", "coldbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, cmd: flag.Args()}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.line.close()
	fmt.Printf("image: %d inodes, %s of data, %s stored, bootstrap %s; chunks of %d KiB; line %.0f Mbit/s, %v\n\n",
		b.res.Inodes, mib(b.res.DataSize), mib(b.res.Written[0].Size), mib(b.res.BootstrapSize), *chunkFlag>>10, *rateFlag/1e6, *rttFlag)
	fmt.Println("| start | first output | floor | ratio | touched | fetched | ratio | requests |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	profile := filepath.Join(dir, "profile.json")
	if _, err := b.start(ctx, "", profile); err != nil {
		return err
	}
	lazy, err := b.row(ctx, "cold", "")
	if err != nil {
		return err
	}
	if _, err := b.row(ctx, "cold, with profile", profile); err != nil {
		return err
	}
	if *skipFlag {
		return nil
	}
	var whole []time.Duration
	for range *runsFlag {
		d, err := b.download(ctx)
		if err != nil {
			return err
		}
		whole = append(whole, d)
	}
	fmt.Printf("\ndownload and unpack: %.2f s, %.1f times the lazy start\n", median(whole).Seconds(), float64(median(whole))/float64(lazy))
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// prepare makes the image and pushes it to a registry behind the line.
func (b *bench) prepare(ctx context.Context) error {
	out := filepath.Join(b.dir, "image")
	store := filepath.Join(b.dir, "registry")
	for _, d := range []string{out, store} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	var err error
	b.res, err = build.Create(ctx, build.Dir(*dirFlag), build.Output{Bootstrap: filepath.Join(out, "image.boot"), BlobDir: out},
		build.Options{ChunkSize: uint32(*chunkFlag), Compressor: storage.Zstd})
	if err != nil {
		return err
	}
	reg, err := registry.Start(store, registry.Options{Wrap: trace})
	if err != nil {
		return err
	}
	img, err := ocirafs.New(ocirafs.Image{Bootstrap: b.res.Bootstrap, Blobs: []string{b.res.Written[0].Path}})
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(reg.Addr + "/bench/image:1")
	if err != nil {
		return err
	}
	if err := ocirafs.Push(ctx, ref, img); err != nil {
		return err
	}
	b.line, err = newShaper(reg.Addr, *rateFlag, *rttFlag)
	if err != nil {
		return err
	}
	b.ref = "docker://" + b.line.addr() + "/bench/image:1"
	return nil
}

type result struct {
	first time.Duration
	stats *serve.ImageStats
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

// start mounts the image with an empty cache, runs the command, and returns
// how long the first output took from the beginning.
func (b *bench) start(ctx context.Context, profile, record string) (result, error) {
	cache, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return result{}, err
	}
	point, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return result{}, err
	}
	ref, err := source.Parse(b.ref, source.Auto)
	if err != nil {
		return result{}, err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	begin := time.Now()
	target, err := serve.Open(ctx, ref, serve.Config{
		Source: source.Options{CacheDir: cache}, Prefetch: "none", Profile: profile, Record: record != "", Log: quiet,
	})
	if err != nil {
		return result{}, err
	}
	defer target.Close()
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: point, Source: b.ref, Type: "image", Fuse: target.Fuse, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return result{}, err
	}
	target.Image.Start()
	mounted := time.Since(begin)
	var out bytes.Buffer
	res, err := sandbox.Run(ctx, sandbox.Config{
		Root: m.Point(), Args: b.cmd, Env: []string{"PATH=/usr/local/go/bin:/usr/bin:/bin", "HOME=/root"},
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
	return result{mounted + res.FirstOutput, s.Image}, err
}

// download does it the other way: all of the image, unpacked to a directory.
func (b *bench) download(ctx context.Context) (time.Duration, error) {
	dir, err := os.MkdirTemp(b.dir, "download-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	id := b.res.Written[0].ID
	resp, err := http.Get("http://" + b.line.addr() + "/v2/bench/image/blobs/sha256:" + id)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(dir, id))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(f, resp.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	tree, err := detect.Open(b.res.Bootstrap, nil)
	if err != nil {
		return 0, err
	}
	defer tree.Close()
	blobs, err := direct.OpenDir(dir)
	if err != nil {
		return 0, err
	}
	defer blobs.Close()
	if _, err := unpack.Dir(ctx, tree, filepath.Join(dir, "out"), unpack.Options{Backend: blobs}); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// trace logs requests, if that is wanted.
func trace(h http.Handler) http.Handler {
	if !*traceFlag {
		return h
	}
	l := log.New(os.Stderr, "", log.Lmicroseconds)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.Println(r.RemoteAddr, r.Method, r.URL.Path, r.Header.Get("Range"))
		h.ServeHTTP(w, r)
	})
}
