package main

import (
	"context"
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
// and read through a cold mount, by turns. lazy is what a start took.
func (b *bench) whole(ctx context.Context, lazy time.Duration) error {
	var unpacked, mounted []time.Duration
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
	}
	u, m := median(unpacked), median(mounted)
	fmt.Printf("\ndownload and unpack: %.2f s, %.1f times the lazy start\n", u.Seconds(), float64(u)/float64(lazy))
	fmt.Printf("read all through a cold mount: %.2f s, %.2f of that\n", m.Seconds(), float64(m)/float64(u))
	return nil
}

// readAll mounts the image with an empty cache and reads all files in it, one
// after another.
func (b *bench) readAll(ctx context.Context) (took time.Duration, err error) {
	begin := time.Now()
	target, err := b.open(ctx, serve.Config{})
	if err != nil {
		return 0, err
	}
	defer target.Close()
	m, err := b.mount(target)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	err = filepath.WalkDir(m.Point(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for err == nil {
			_, err = f.Read(buf)
		}
		if err == io.EOF {
			err = nil
		}
		return err
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
