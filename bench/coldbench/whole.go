package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/unpack"
	"github.com/sluicefs/sluice/internal/serve"
)

// whole prints what getting all of the image takes: downloaded and unpacked,
// and read through a cold mount; and a start of the command in a plain mount,
// by turns.
func (b *bench) whole(ctx context.Context) error {
	var unpacked, mounted, started []time.Duration
	for range *runsFlag {
		d, err := b.download(ctx)
		if err != nil {
			return err
		}
		unpacked = append(unpacked, d)
		if d, err = b.readAll(ctx); err != nil {
			return err
		}
		mounted = append(mounted, d)
		r, err := b.start(ctx, way{plain: true})
		if err != nil {
			return err
		}
		started = append(started, r.first)
	}
	u, m, s := median(unpacked), median(mounted), median(started)
	fmt.Printf("\ndownload and unpack: %.2f s, %.1f times a cold start (%.2f s)\n", u.Seconds(), float64(u)/float64(s), s.Seconds())
	fmt.Printf("read all through a cold mount: %.2f s, %.2f of that\n", m.Seconds(), float64(m)/float64(u))
	return nil
}

// readAll mounts the image with an empty cache and reads all files in it, one
// after another.
func (b *bench) readAll(ctx context.Context) (took time.Duration, err error) {
	begin := time.Now()
	target, err := b.open(ctx, b.ref, serve.Config{})
	if err != nil {
		return 0, err
	}
	defer target.Close()
	m, err := b.mount(target)
	if err != nil {
		return 0, err
	}
	err = filepath.WalkDir(m.Point(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return readAll(path, 1<<20)
	})
	took = time.Since(begin)
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return took, errors.Join(err, m.End(ending))
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
	if err := b.get(ctx, "image", id, filepath.Join(dir, id), io.Discard); err != nil {
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

// get downloads a blob to a file, and gives its bytes to also, in one
// request.
func (b *bench) get(ctx context.Context, repository, id, to string, also io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.line.addr()+"/v2/bench/"+repository+"/blobs/sha256:"+id, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.TeeReader(resp.Body, also))
	return errors.Join(err, f.Close())
}

// getVerified downloads a blob to a file as those do who will use it: it
// compares the digest.
func (b *bench) getVerified(ctx context.Context, repository, id, to string) error {
	sum := sha256.New()
	if err := b.get(ctx, repository, id, to, sum); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != id {
		return fmt.Errorf("%s has digest %s", id, got)
	}
	return nil
}
