// Package demo shows the main job in one go: it packs a tree that every
// machine with Go has, the Go distribution, into an image, pushes it to a
// registry on loopback, mounts it from there without downloading it, and
// works with the mounted Go. [Run] does it all and cleans up, [Report] is
// what came out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
)

// Options of a demonstration.
type Options struct {
	GOROOT    string // the Go distribution to pack
	Dir       string // for everything it writes; made and removed again
	Transport string // see fuse.MountOptions.Transport
	Progress  Progress
	Log       io.Writer // of the mount, nil is nowhere
}

// Progress is told what is going on; the calls come from one goroutine.
type Progress interface {
	// Step begins the next step, of total bytes if that is not 0.
	Step(what string, total int64)
	// Add says that n more bytes are done.
	Add(n int64)
}

// Report is what came out of a demonstration.
type Report struct {
	Version       string        `json:"go_version"` // what the mounted "go version" printed
	Output        string        `json:"program"`    // what the compiled program printed
	Inodes        uint64        `json:"inodes"`
	DataBytes     int64         `json:"data_bytes"` // of the files
	Pack          time.Duration `json:"pack_ns"`
	ImageBytes    int64         `json:"image_bytes"` // in the registry, metadata included
	BlobBytes     int64         `json:"blob_bytes"`  // of it, the data
	Transport     string        `json:"transport"`
	Ready         time.Duration `json:"ready_ns"`        // until the mount could be used
	FirstOutput   time.Duration `json:"first_output_ns"` // until "go version" had printed, mounting included
	FirstFetched  int64         `json:"first_fetched_bytes"`
	FirstRequests int64         `json:"first_requests"`
	Compile       time.Duration `json:"compile_ns"`
	Fetched       int64         `json:"fetched_bytes"` // in the end
	Requests      int64         `json:"requests"`
	Download      time.Duration `json:"download_ns"` // of the whole image, for comparison
	Unpack        time.Duration `json:"unpack_ns"`
	Total         time.Duration `json:"total_ns"`
}

// chunkSize is small, as the demonstration is about reading little: most of
// a Go distribution is read in parts.
const chunkSize = 256 << 10

// state is what a running demonstration has made.
type state struct {
	opts    Options
	report  Report
	closers []func() error
	image   *build.Result
	reg     *registry.Server
	ref     string
}

// Run runs the demonstration. When it returns, also because ctx ended or
// something failed, nothing of it is left.
func Run(ctx context.Context, o Options) (*Report, error) {
	start := time.Now()
	if err := CheckTree(o.GOROOT); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &state{opts: o}
	s.atEnd(func() error { return mounts.RemoveTree(o.Dir) })
	err := s.run(ctx)
	if err = errors.Join(err, s.cleanUp()); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("interrupted: everything is cleaned up")
		}
		return nil, err
	}
	s.report.Total = time.Since(start)
	return &s.report, nil
}

func (s *state) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.pack, s.push, s.use, s.compare} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) atEnd(f func() error) { s.closers = append(s.closers, f) }

func (s *state) cleanUp() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

// CheckTree reports why dir is not a Go distribution that can be packed.
func CheckTree(dir string) error {
	for _, name := range []string{"bin/go", "src/runtime", "pkg/tool"} {
		path := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("%s is not a whole Go distribution: %w", dir, err)
		}
		if top, err := filepath.EvalSymlinks(dir); err != nil || real != filepath.Join(top, name) {
			return fmt.Errorf("%s is not a whole Go distribution: %s is a link to %s", dir, name, real)
		}
	}
	return nil
}

func (s *state) pack(ctx context.Context) error {
	start := time.Now()
	p := s.opts.Progress
	p.Step("packing "+s.opts.GOROOT, 0)
	dir := filepath.Join(s.opts.Dir, "image")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	res, err := build.Create(ctx, build.Dir(s.opts.GOROOT), build.Output{
		Bootstrap: filepath.Join(dir, "image.boot"), BlobDir: dir,
	}, build.Options{
		ChunkSize: chunkSize, Compressor: storage.Zstd,
		Total:    func(n int64) { p.Step("packing "+s.opts.GOROOT, n) },
		Progress: p.Add,
	})
	if err != nil {
		return err
	}
	s.image = res
	s.report.Inodes, s.report.DataBytes, s.report.Pack = res.Inodes, res.DataSize, time.Since(start)
	return nil
}

func (s *state) push(ctx context.Context) error {
	s.opts.Progress.Step("pushing to a registry on loopback", 0)
	dir := filepath.Join(s.opts.Dir, "registry")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	reg, err := registry.Start(dir, registry.Options{})
	if err != nil {
		return err
	}
	s.reg = reg
	s.atEnd(reg.Close)
	in := ocirafs.Image{Bootstrap: s.image.Bootstrap}
	for _, b := range s.image.Written {
		in.Blobs = append(in.Blobs, b.Path)
	}
	img, err := ocirafs.New(in)
	if err != nil {
		return err
	}
	s.ref = reg.Addr + "/demo/go:latest"
	ref, err := name.ParseReference(s.ref)
	if err != nil {
		return err
	}
	if err := ocirafs.Push(ctx, ref, img); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for i, l := range m.Layers {
		s.report.ImageBytes += l.Size
		if i < len(m.Layers)-1 {
			s.report.BlobBytes += l.Size
		}
	}
	return nil
}

// use mounts the image from the registry and works with it.
func (s *state) use(ctx context.Context) error {
	s.opts.Progress.Step("mounting it from there, and running the mounted go version", 0)
	point := filepath.Join(s.opts.Dir, "mnt")
	if err := os.Mkdir(point, 0o700); err != nil {
		return err
	}
	out := s.opts.Log
	if out == nil {
		out = io.Discard
	}
	ref, err := source.Parse("docker://"+s.ref, source.Auto)
	if err != nil {
		return err
	}
	start := time.Now()
	before := s.reg.Requests.Load()
	target, err := serve.Open(ctx, ref, serve.Config{
		Source:   source.Options{CacheDir: filepath.Join(s.opts.Dir, "cache")},
		Prefetch: "none", Transport: transport(s.opts.Transport),
		Log: slog.New(slog.NewTextHandler(out, nil)),
	})
	if err != nil {
		return err
	}
	defer target.Close()
	m, err := serve.Start(target.FS, serve.Options{
		Mountpoint: point, Source: ref.Text, Type: target.Type, Fuse: target.Fuse,
		Logger: log.New(out, "", 0), Inspect: target.Inspector(),
	})
	if err != nil {
		return err
	}
	s.report.Ready = time.Since(start)
	s.report.Transport = m.Transport()
	err = s.work(ctx, target, point, start, before)
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, m.End(ending))
}

func (s *state) work(ctx context.Context, t *serve.Target, point string, start time.Time, before int64) error {
	var st serve.Stats
	version, err := s.run1(ctx, point, point+"/bin/go", "version")
	if err != nil {
		return err
	}
	s.report.FirstOutput, s.report.Version = time.Since(start), version
	t.Image.Stats(&st)
	s.report.FirstFetched = st.Image.FetchedBytes
	s.report.FirstRequests = s.reg.Requests.Load() - before

	s.opts.Progress.Step("compiling a program with the mounted Go", 0)
	start = time.Now()
	src := filepath.Join(s.opts.Dir, "hello.go")
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		return err
	}
	exe := filepath.Join(s.opts.Dir, "hello")
	if _, err := s.run1(ctx, point, point+"/bin/go", "build", "-o", exe, src); err != nil {
		return err
	}
	if s.report.Output, err = s.run1(ctx, point, exe); err != nil {
		return err
	}
	s.report.Compile = time.Since(start)
	t.Image.Stats(&st)
	s.report.Fetched = st.Image.FetchedBytes
	s.report.Requests = s.reg.Requests.Load() - before
	return nil
}

// program is compiled with the mounted Go.
const program = `package main

import (
	"fmt"
	"runtime"
)

func main() {
	fmt.Println("compiled by", runtime.Version(), "from files fetched on demand")
}
`
