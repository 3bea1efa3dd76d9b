package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/storage/cache"
)

// What the readers of patterns read.
const (
	randomReads = 100      // at random places of all files
	readSize    = 4 << 10  // bytes of one of them
	bigReads    = 24       // in the large file
	sequential  = 64 << 10 // bytes that the reader in sequence reads at once
)

// patterns prints how a cold mount fares with a reader in sequence, beside a
// plain download of the same bytes, and with readers at random places.
func (b *bench) patterns(ctx context.Context) error {
	dir := filepath.Join(b.dir, "large-file")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		return err
	}
	size := *bigFlag << 20
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	res, err := b.push(ctx, dir, "large")
	if err != nil {
		return err
	}
	var plain, lazy []time.Duration
	for range *runsFlag {
		begin := time.Now()
		if err := b.get(ctx, "large", res.Written[0].ID, filepath.Join(b.dir, "download")); err != nil {
			return err
		}
		plain = append(plain, time.Since(begin))
		var took time.Duration
		if _, err := b.with(ctx, b.refOf("large"), func(point string) error {
			begin := time.Now()
			err := readAll(filepath.Join(point, "large"), sequential)
			took = time.Since(begin)
			return err
		}); err != nil {
			return err
		}
		lazy = append(lazy, took)
	}
	p, l := median(plain), median(lazy)
	fmt.Printf("\n%d MiB in sequence through a cold mount: %.2f s, %.1f MB/s; plain download %.2f s, %.1f MB/s; %.2f of its time\n",
		*bigFlag, l.Seconds(), float64(size)/1e6/l.Seconds(), p.Seconds(), float64(size)/1e6/p.Seconds(), float64(l)/float64(p))
	return errors.Join(
		b.random(ctx, fmt.Sprintf("%d reads of 4 KiB at random places of a file of %d MiB", bigReads, *bigFlag), b.refOf("large"), bigReads),
		b.random(ctx, fmt.Sprintf("%d reads of 4 KiB at random places of random files", randomReads), b.ref, randomReads))
}

// with runs f with the image mounted with an empty cache, and returns what
// was fetched for it.
func (b *bench) with(ctx context.Context, ref string, f func(point string) error) (*serve.ImageStats, error) {
	var line timeline
	target, err := b.open(ctx, ref, serve.Config{Fetch: cache.ReaderOptions{Trace: line.add}})
	if err != nil {
		return nil, err
	}
	defer target.Close()
	m, err := b.mount(target)
	if err != nil {
		return nil, err
	}
	err = f(m.Point())
	if *traceFlag {
		line.sum(os.Stderr)
	}
	var s serve.Stats
	target.Image.Stats(&s)
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Image, errors.Join(err, m.End(ending))
}

// readAll reads a file from its start to its end.
func readAll(path string, size int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, size)
	for err == nil {
		_, err = f.Read(buf)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// random prints what n reads at random places of random files fetch.
func (b *bench) random(ctx context.Context, what, ref string, n int) error {
	s, err := b.with(ctx, ref, func(point string) error {
		var files []string
		err := filepath.WalkDir(point, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		})
		rnd := rand.New(rand.NewPCG(1, 2))
		buf := make([]byte, readSize)
		for range n {
			if err != nil {
				return err
			}
			err = readSome(files[rnd.IntN(len(files))], buf, rnd)
		}
		return err
	})
	if err == nil {
		fmt.Printf("%s: touched %s, fetched %s, %.2f of that\n", what, mib(s.TouchedBytes), mib(s.FetchedBytes), float64(s.FetchedBytes)/float64(s.TouchedBytes))
	}
	return err
}

// readSome reads a buffer from a random place of a file.
func readSome(path string, buf []byte, rnd *rand.Rand) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.ReadAt(buf, rnd.Int64N(max(1, fi.Size())))
	if err == io.EOF {
		return nil
	}
	return err
}
