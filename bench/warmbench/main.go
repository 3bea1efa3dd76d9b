// Command warmbench measures an image whose data is on this machine already,
// beside the directory that it was made of and beside go-fuse's loopback of
// that directory:
//
//	go run ./warmbench -source DIR [-rounds 5] [-million N]
//
// It walks and reads the whole tree with warm kernel caches, reads 4 KiB at
// random places of its largest file with pread and through a mapping, and
// reads all of it again after the kernel's caches were dropped, when sluice
// serves from its chunk cache. Each server is a process of its own; they take
// turns within a round, and medians count.
//
// With -million an image of N empty files is walked and the memory of the
// process that serves it is shown.
//
// It needs root, and does best on a quiet machine: dropping caches hits all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/storage"
)

func main() {
	source := flag.String("source", "", "directory to make the image of (needed)")
	rounds := flag.Int("rounds", 5, "rounds of each measurement; the median counts")
	million := flag.Int("million", 0, "files of an image to walk for the memory it takes, 0 for none")
	serving := flag.String("serve", "", "for itself: what to serve")
	flag.Parse()
	var err error
	switch {
	case *serving != "":
		err = runServer(*serving, flag.Arg(0), flag.Arg(1))
	case *source == "" || *rounds < 1:
		flag.Usage()
		os.Exit(2)
	default:
		err = run(*source, *rounds, *million)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "warmbench:", err)
		os.Exit(1)
	}
}

// side is one way to the same files.
type side struct {
	name  string
	root  string
	times map[string][]time.Duration
}

func run(source string, rounds, million int) (err error) {
	work, err := os.MkdirTemp("", "warmbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if million > 0 {
		if err := walkMillion(work, million); err != nil {
			return err
		}
	}
	res, err := build.Create(context.Background(), build.Dir(source), build.Output{Bootstrap: filepath.Join(work, "image.boot"), BlobDir: work},
		build.Options{Compressor: storage.Zstd})
	if err != nil {
		return err
	}
	sides := []*side{{name: "directory", root: source}}
	for _, s := range []struct{ name, back string }{{"sluice", res.Bootstrap}, {"go-fuse", source}} {
		m, merr := mountServer(work, s.name, s.back)
		if merr != nil {
			return merr
		}
		defer func() { err = errors.Join(err, m.end()) }()
		sides = append(sides, &side{name: s.name, root: m.point})
	}
	return measure(sides, rounds)
}

func measure(sides []*side, rounds int) error {
	big, err := largest(sides[0].root)
	if err != nil {
		return err
	}
	for _, s := range sides { // everything is there, and in memory as far as it fits
		s.times = map[string][]time.Duration{}
		if _, err := readAll(s.root); err != nil {
			return err
		}
	}
	for range rounds {
		for _, t := range tests {
			for _, s := range sides {
				if t.cold {
					if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
						return err
					}
				}
				began := time.Now()
				if err := t.run(s.root, big); err != nil {
					return fmt.Errorf("%s of %s: %w", t.name, s.name, err)
				}
				s.times[t.name] = append(s.times[t.name], time.Since(began))
			}
		}
	}
	fmt.Printf("| | %s | %s | %s | sluice / directory | go-fuse / sluice |\n|---|---|---|---|---|---|\n", sides[0].name, sides[1].name, sides[2].name)
	for _, t := range tests {
		d, s, g := median(sides[0].times[t.name]), median(sides[1].times[t.name]), median(sides[2].times[t.name])
		fmt.Printf("| %s | %.1f ms | %.1f ms | %.1f ms | %.2f | %.2f |\n", t.name, ms(d), ms(s), ms(g), float64(s)/float64(d), float64(g)/float64(s))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
