package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
)

// Options of opening an image. The zero value is the default but for
// CacheDir, which is needed.
type Options struct {
	CacheDir  string // bootstraps and manifests are kept in it
	BlobDir   string // directory or disk with a bootstrap's blobs; "" is beside it
	PlainHTTP bool   // speak HTTP to registries other than on loopback
	Platform  *v1.Platform
	Keychain  authn.Keychain // nil is docker's configuration
	CertsDirs []string       // with hosts.toml files; nil is containerd's and docker's
	Endpoint  string         // of an object store; "" is the store's own
	Region    string         // of an object store; "" is what it says
	Warn      func(format string, args ...any)
	// Fetching is told of an image that has to be fetched as a whole, and of
	// how many bytes; done is called as they come, and then end. It may be nil.
	Fetching func(what string, size int64) (done func(n int64), end func())
	// Outage is what a read does while the origin is away, after tries for
	// RetryDeadline (0: 30 s).
	Outage        backend.Policy
	RetryDeadline time.Duration
	Timeout       time.Duration // until a server begins to answer, and in which it sends 16 KiB at least; 0: 15 s and 10 s
	Log           *slog.Logger  // told of outages; nil is the default logger
}

func (o *Options) platform() v1.Platform {
	if o.Platform != nil {
		return *o.Platform
	}
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(format, args...)
	}
}

// Image is an image that can be mounted: its metadata is local, its data is
// where Backend reads it.
type Image struct {
	Ref       Ref
	Digest    string // of the manifest, "" where there is none
	Tree      image.Tree
	Backend   storage.Backend
	Config    v1.Config        // how to run it; empty where there is none
	Stored    int64            // bytes of all blobs as stored, 0 if unknown
	MetaBytes int64            // bytes of metadata as stored
	Whole     bool             // all of it lies on this machine, as it was a plain image
	Ahead     []storage.Extent // that its index asks to be fetched first, in order; their file offsets mean nothing

	repo    *repository                          // of an image in a registry
	lazy    []estargz.Layer                      // of a plain image whose layers have tables of contents
	later   func(wanted bool) (v1.Config, error) // waits for Config, if it is not there yet
	keep    func() error                         // keeps the bootstrap for later mounts
	closers []io.Closer
}

// Close gives back what the image holds. Nothing of it may be used after.
func (i *Image) Close() error {
	var errs []error
	for k := len(i.closers) - 1; k >= 0; k-- {
		errs = append(errs, i.closers[k].Close())
	}
	i.closers = nil
	return errors.Join(errs...)
}

// OpenImage opens the image that ref names.
func OpenImage(ctx context.Context, ref Ref, o Options) (*Image, error) {
	img := &Image{Ref: ref}
	if err := CheckCacheDir(o.CacheDir); err != nil {
		return nil, err
	}
	boot, err := img.locate(ctx, &o)
	if err == nil {
		err = img.openTree(ctx, boot)
	}
	if img.later != nil {
		var late error
		if img.Config, late = img.later(err == nil); err == nil {
			err = late
		}
	}
	if img.keep != nil { // it has been opened, and may change its name
		img.closers = append(img.closers, inBackground(img.keep))
	}
	if err != nil {
		img.Close()
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return img, nil
}

// locate sets the backend up and returns the local file of the bootstrap.
func (i *Image) locate(ctx context.Context, o *Options) (boot string, err error) {
	switch i.Ref.Kind {
	case Registry:
		return i.fromRegistry(ctx, o)
	case OCILayout:
		fs := dirFiles(i.Ref.Name)
		b, err := localBackend(filepath.Join(i.Ref.Name, "blobs", "sha256"))
		if err != nil {
			return "", err
		}
		return i.fromLayout(ctx, fs, b, o)
	case OCIArchive:
		a, err := openArchive(i.Ref.Name)
		if err != nil {
			return "", err
		}
		i.closers = append(i.closers, a)
		return i.fromLayout(ctx, a, a, o)
	case Bootstrap:
		return i.fromBootstrap(o)
	case Object, OSS, HTTP:
		return i.fromObjects(ctx, o)
	case Disk:
		return i.fromDisk(ctx, o)
	}
	return "", fmt.Errorf("type %s is not an image", i.Ref.Kind)
}

func (i *Image) openTree(ctx context.Context, boot string) error {
	if i.Tree != nil {
		return nil // by a SOCI index
	}
	if i.lazy != nil {
		return i.openLazy(ctx)
	}
	tree, err := detect.Open(boot, nil)
	if err != nil {
		return err
	}
	i.Tree = tree
	i.closers = append(i.closers, tree)
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(ctx, i.Backend); err != nil {
			return err
		}
	}
	return nil
}

func (i *Image) fromRegistry(ctx context.Context, o *Options) (string, error) {
	r, err := openRepository(i.Ref, o)
	if err != nil {
		return "", err
	}
	i.use(r)
	i.repo = r
	d, err := r.resolve(ctx, i.Ref, filepath.Join(o.CacheDir, "manifests"))
	if err != nil {
		return "", err
	}
	i.Backend = o.remote(r.Backend)
	return i.described(ctx, d, r.open, o)
}

func (i *Image) fromLayout(ctx context.Context, fs files, b storage.Backend, o *Options) (string, error) {
	d, err := resolveLayout(i.Ref, fs, o.platform())
	if err != nil {
		return "", err
	}
	i.use(b)
	return i.described(ctx, d, layoutOpener(fs), o)
}

// described takes over what a manifest says, and returns the local file of
// the bootstrap if there is one.
func (i *Image) described(ctx context.Context, d *description, open opener, o *Options) (string, error) {
	i.Digest = d.digest.String()
	i.Config, i.later = d.config, d.later
	i.lazy = d.lazy
	i.MetaBytes = d.bootstrap.Size
	for _, n := range d.blobs {
		i.Stored += n
	}
	switch {
	case d.lazy != nil:
		return "", nil
	case d.plain:
		return i.convert(ctx, d, open, o)
	}
	boot, keep, err := bootstrapFile(filepath.Join(o.CacheDir, "bootstraps"), d.bootstrap, func() (io.ReadCloser, error) {
		return open(ctx, d.bootstrap)
	})
	i.keep = keep
	return boot, err
}

// task is something under way; closing it waits for its end.
type task chan error

func inBackground(f func() error) task {
	t := make(task, 1)
	go func() { t <- f() }()
	return t
}

// Close waits for the end of the task.
func (t task) Close() error { return <-t }

// fromBootstrap looks for blobs beside the bootstrap, in a directory blobs
// there, or where it was told.
func (i *Image) fromBootstrap(o *Options) (string, error) {
	beside := filepath.Dir(i.Ref.Name)
	dirs := []string{beside, filepath.Join(beside, "blobs")}
	if o.BlobDir != "" {
		dirs = []string{o.BlobDir}
	}
	if device(i.Ref.Name) && o.BlobDir == "" {
		dirs[0] = i.Ref.Name // an EROFS file system with all its data
	}
	if fi, err := os.Stat(dirs[0]); err == nil && !fi.IsDir() {
		b, err := OpenDisk(dirs[0])
		if err != nil {
			return "", err
		}
		i.use(b)
		return i.Ref.Name, nil
	}
	b, err := localBackend(dirs...)
	if err != nil {
		return "", err
	}
	i.use(b)
	return i.Ref.Name, nil
}

// use makes b the backend, to be closed with the image.
func (i *Image) use(b storage.Backend) {
	i.Backend = b
	if c, ok := b.(io.Closer); ok {
		if len(i.closers) == 0 || i.closers[len(i.closers)-1] != c {
			i.closers = append(i.closers, c)
		}
	}
}

// bootObject splits the URL path of an image in an object store into the
// prefix of its blobs and the name of its bootstrap.
func bootObject(path string) (prefix, boot string) {
	path = strings.TrimPrefix(path, "/")
	if strings.HasSuffix(path, ".boot") {
		k := strings.LastIndexByte(path, '/')
		return path[:k+1], path[k+1:]
	}
	if path != "" && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path, "image.boot"
}
