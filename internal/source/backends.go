package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/httpdir"
	"github.com/sluicefs/sluice/storage/backend/localfs"
	"github.com/sluicefs/sluice/storage/backend/ranged"
	"github.com/sluicefs/sluice/storage/backend/s3"
)

// localBackend reads blobs from those of dirs that are there.
func localBackend(dirs ...string) (storage.Backend, error) {
	var there []string
	for _, d := range dirs {
		if fi, err := os.Stat(d); err == nil && fi.IsDir() {
			there = append(there, d)
		}
	}
	if len(there) == 0 {
		there = dirs[:1]
	}
	return localfs.New(there...)
}

// readsUnderWay bounds the ranges that one mount has under way at a server.
const readsUnderWay = 16

// remote puts around a backend beyond the network what such a one needs.
func (o *Options) remote(b storage.Backend) storage.Backend {
	return backend.Outage(backend.Retry(backend.Limit(b, readsUnderWay, nil), backend.RetryOptions{Deadline: o.RetryDeadline}),
		o.Outage, backend.OutageOptions{Log: o.Log})
}

// ranges are the time-outs of requests.
func (o *Options) ranges() ranged.Options {
	return ranged.Options{HeaderTimeout: o.Timeout, Stall: o.Timeout}
}

// fromObjects opens an image whose bootstrap and blobs are objects of a
// store, or files below a URL.
func (i *Image) fromObjects(ctx context.Context, o *Options) (string, error) {
	u, err := url.Parse(i.Ref.Name)
	if err != nil {
		return "", errors.New("not a URL")
	}
	prefix, boot := bootObject(u.Path)
	var b storage.Backend
	switch i.Ref.Kind {
	case HTTP:
		u.Path = "/" + prefix
		b, err = httpdir.New(httpdir.Options{URL: u.String(), Range: o.ranges()})
	default:
		so := s3.Options{Endpoint: o.Endpoint, Bucket: u.Host, Prefix: prefix, Region: o.Region, Range: o.ranges()}
		if strings.HasPrefix(o.Endpoint, "http://") {
			so.PlainHTTP = true
		}
		if i.Ref.Kind == OSS {
			if so.Endpoint == "" {
				return "", errors.New("an oss:// source needs --endpoint, such as oss-cn-hangzhou.aliyuncs.com")
			}
			so.Style = s3.VirtualHost
		}
		b, err = s3.New(so)
	}
	if err != nil {
		return "", err
	}
	i.use(b)
	plain := backend.Retry(b, backend.RetryOptions{Deadline: o.RetryDeadline})
	i.Backend = o.remote(b)
	path, err := i.fetchBootstrap(ctx, plain, boot, filepath.Join(o.CacheDir, "bootstraps"))
	if h, ok := b.(*httpdir.Backend); ok && err == nil && h.IgnoresRange() {
		o.warn("%s: this server cannot send parts of files: each read begins at the start of a blob, and fails 64 MiB into it; "+
			"serve the directory by one that answers requests with a Range (nginx, caddy, apache)", i.Ref)
	}
	return path, err
}

// fetchStep is how much of a bootstrap is asked for in one range.
const fetchStep = 4 << 20

// fetchBootstrap copies the object called boot to a local file, anew for
// each mount: its name does not say what it should be.
func (i *Image) fetchBootstrap(ctx context.Context, b storage.Backend, boot, dir string) (string, error) {
	size, err := b.Size(ctx, boot)
	if err != nil {
		return "", err
	}
	if size > maxBootstrap {
		return "", fmt.Errorf("bootstrap %s of %d bytes is too large", boot, size)
	}
	i.MetaBytes = size
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".boot-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	buf := make([]byte, min(size, fetchStep))
	for off := int64(0); off < size && err == nil; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), size-off)]
		if err = b.ReadAt(ctx, boot, p, off); err == nil {
			_, err = f.WriteAt(p, off)
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("fetch bootstrap: %w", err)
	}
	path := filepath.Join(dir, "object-"+sha256Hex([]byte(i.Ref.Name))+".boot")
	return path, os.Rename(f.Name(), path)
}
