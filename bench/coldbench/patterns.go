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

	"golang.org/x/sys/unix"

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
	if err := b.inSequence(ctx, size, res.Written[0].ID); err != nil {
		return err
	}
	return errors.Join(
		b.random(ctx, fmt.Sprintf("%d reads of 4 KiB at random places of a file of %d MiB", bigReads, *bigFlag), b.refOf("large"), bigReads),
		b.random(ctx, fmt.Sprintf("%d reads of 4 KiB at random places of random files", randomReads), b.ref, randomReads))
}

// inSequence prints how a reader in sequence of a file of size bytes, alone in
// the blob id, fares beside downloads of the same bytes to a file, without
// and with comparing the digest, by turns.
func (b *bench) inSequence(ctx context.Context, size int64, id string) error {
	to := filepath.Join(b.dir, "download")
	ways := []struct {
		what string
		do   func() (time.Duration, error)
		took []time.Duration
		cpu  []time.Duration
	}{
		{what: "plain download", do: func() (time.Duration, error) {
			begin := time.Now()
			err := b.get(ctx, "large", id, to, io.Discard)
			return time.Since(begin), err
		}},
		{what: "download with its digest compared", do: func() (time.Duration, error) {
			begin := time.Now()
			err := b.getVerified(ctx, "large", id, to)
			return time.Since(begin), err
		}},
		{what: "through a cold mount", do: func() (took time.Duration, err error) {
			_, err = b.with(ctx, b.refOf("large"), func(point string) error {
				begin := time.Now()
				err := readAll(filepath.Join(point, "large"), sequential)
				took = time.Since(begin)
				return err
			})
			return took, err
		}},
	}
	for range *runsFlag {
		for i := range ways {
			_ = os.Remove(to)
			before := processors()
			took, err := ways[i].do()
			if err != nil {
				return err
			}
			ways[i].took = append(ways[i].took, took)
			ways[i].cpu = append(ways[i].cpu, processors()-before)
		}
	}
	lazy := median(ways[2].took)
	fmt.Printf("\n%d MiB in sequence:\n", *bigFlag)
	for _, w := range ways {
		m := median(w.took)
		fmt.Printf("%s: %.3f s (%.3f s of processors, registry and line included), %.1f MB/s; the mount takes %.2f of that\n",
			w.what, m.Seconds(), median(w.cpu).Seconds(), float64(size)/1e6/m.Seconds(), float64(lazy)/float64(m))
	}
	return nil
}

// processors is how long processors have worked for this process.
func processors() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // never fails for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
