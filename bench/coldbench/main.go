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
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/sandbox"
	"github.com/sluicefs/sluice/storage"
)

var (
	dirFlag   = flag.String("source", "", "root file system to make the image of")
	rateFlag  = flag.Float64("rate", 100e6, "bandwidth, bits per second; 0 is unlimited")
	rttFlag   = flag.Duration("rtt", 10*time.Millisecond, "round trip")
	runsFlag  = flag.Int("runs", 5, "runs of each kind")
	chunkFlag = flag.Uint("chunk", 1<<20, "largest chunk, bytes")
	traceFlag = flag.Bool("trace", false, "show when the mount asked for what, on a time line of each start")
	skipFlag  = flag.Bool("skip-download", false, "leave out downloading and unpacking the whole, and the patterns")
	bigFlag   = flag.Int64("big", 64, "size of the file that is read in sequence and at random, MiB")
	onlyFlag  = flag.String("only", "", "measure only this: starts, whole or patterns")
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

	direct string // the registry's address, past the line
	asked  asked  // with -trace, of the start under way
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
	if *onlyFlag == "" || *onlyFlag == "starts" {
		if err := b.starts(ctx); err != nil {
			return err
		}
	}
	if !*skipFlag && (*onlyFlag == "" || *onlyFlag == "whole") {
		if err := b.whole(ctx); err != nil {
			return err
		}
	}
	if !*skipFlag && (*onlyFlag == "" || *onlyFlag == "patterns") {
		return b.patterns(ctx)
	}
	return nil
}

// starts measures starts of the command with an empty cache.
func (b *bench) starts(ctx context.Context) error {
	fmt.Println("| start | first output | floor | ratio | touched | fetched | ratio | requests |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	profile := filepath.Join(b.dir, "profile.json")
	if _, err := b.start(ctx, way{record: profile}); err != nil {
		return err
	}
	if err := b.row(ctx, "cold, sluice run", way{}); err != nil {
		return err
	}
	if err := b.row(ctx, "cold, plain mount", way{plain: true}); err != nil {
		return err
	}
	return b.row(ctx, "cold, with profile", way{profile: profile, plain: true})
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// refOf is the reference of an image at the registry behind the line.
func (b *bench) refOf(repository string) string {
	return "docker://" + b.line.addr() + "/bench/" + repository + ":1"
}

// push makes an image of the directory source and puts it into the registry.
func (b *bench) push(ctx context.Context, source, repository string) (*build.Result, error) {
	out := filepath.Join(b.dir, repository)
	if err := os.Mkdir(out, 0o700); err != nil {
		return nil, err
	}
	res, err := build.Create(ctx, build.Dir(source), build.Output{Bootstrap: filepath.Join(out, "image.boot"), BlobDir: out},
		build.Options{ChunkSize: uint32(*chunkFlag), Compressor: storage.Zstd})
	if err != nil {
		return nil, err
	}
	img, err := ocirafs.New(ocirafs.Image{Bootstrap: res.Bootstrap, Blobs: []string{res.Written[0].Path}})
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(b.direct + "/bench/" + repository + ":1")
	if err != nil {
		return nil, err
	}
	return res, ocirafs.Push(ctx, ref, img)
}

// prepare makes the image and pushes it to a registry behind the line.
func (b *bench) prepare(ctx context.Context) error {
	store := filepath.Join(b.dir, "registry")
	if err := os.Mkdir(store, 0o700); err != nil {
		return err
	}
	reg, err := registry.Start(store, registry.Options{})
	if err != nil {
		return err
	}
	b.direct = reg.Addr
	if b.res, err = b.push(ctx, *dirFlag, "image"); err != nil {
		return err
	}
	b.line, err = newShaper(reg.Addr, *rateFlag, *rttFlag)
	if err != nil {
		return err
	}
	if *traceFlag {
		b.line.seen = b.asked.add
	}
	b.ref = b.refOf("image")
	return nil
}
