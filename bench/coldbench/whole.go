package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/unpack"
)

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
