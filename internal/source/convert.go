package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/storage"
)

// convertedDir is where images lie that were made of plain ones, in the cache
// directory: a directory for each, called by the hex digest of the manifest.
// It is complete when the bootstrap or the SOCI index is in it, and in use
// while somebody has the lock of the file beside it.
const (
	convertedDir  = "converted"
	convertedBoot = "image.boot"
)

// convert makes an image of a plain one, once on this machine, and returns
// its bootstrap. The layers are unpacked as they come; what is kept is
// compressed, and only there when it is whole.
func (i *Image) convert(ctx context.Context, d *description, open opener, o *Options) (string, error) {
	dir := filepath.Join(o.CacheDir, convertedDir, d.digest.Hex)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("directory for the image, which has to be fetched as a whole (--cache-dir names another): %w", err)
	}
	boot := filepath.Join(dir, convertedBoot)
	lock, err := lockConverted(ctx, dir, func() { o.warn("%s: another process is fetching it, waiting", i.Ref) })
	if err != nil {
		return "", err
	}
	i.closers = append(i.closers, lock)
	if !complete(dir) {
		if err = clearDir(dir); err == nil {
			err = i.fetchPlain(ctx, d, open, dir, o)
		}
		if err != nil {
			_ = os.RemoveAll(dir) // nothing half-written stays
			_ = os.Remove(lockPath(dir))
			return "", err
		}
	}
	if err == nil {
		err = lock.share()
	}
	if err == nil && !complete(dir) {
		err = fmt.Errorf("%s: removed just now by another process", dir)
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	if here(dir, sociSaved) {
		_ = os.Chtimes(filepath.Join(dir, sociSaved), now, now)
		if i.Tree == nil {
			err = i.openSOCI(ctx, d, dir)
		}
		return "", err
	}
	b, err := localBackend(dir)
	if err != nil {
		return "", err
	}
	i.Whole, i.Stored, i.MetaBytes = true, sizeOfFiles(dir), 0
	_ = os.Chtimes(boot, now, now) // when it was used last
	i.use(b)
	return boot, nil
}

// complete reports whether the image in dir is all there.
func complete(dir string) bool { return here(dir, convertedBoot) || here(dir, sociSaved) }

func here(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// fetchPlain brings what there has to be on this machine of a plain image:
// little if it has a SOCI index that holds good, else all.
func (i *Image) fetchPlain(ctx context.Context, d *description, open opener, dir string, o *Options) error {
	if i.repo != nil {
		found, err := i.fetchSOCI(ctx, i.repo, d, dir, o)
		if err == nil && found {
			if err = i.openSOCI(ctx, d, dir); err == nil {
				return nil
			}
			_ = os.Remove(filepath.Join(dir, sociSaved))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			o.warn("%s: its SOCI index is of no use: %v", i.Ref, err)
		}
	}
	return i.build(ctx, d, open, filepath.Join(dir, convertedBoot), o)
}

// build fetches the layers and writes the image.
func (i *Image) build(ctx context.Context, d *description, open opener, boot string, o *Options) error {
	done, end := func(int64) {}, func() {}
	size, _ := layersOf(d.manifest.Layers, nil)
	dir := filepath.Dir(boot)
	if err := needSpace(o.CacheDir, size); err != nil {
		return fmt.Errorf("a plain image has to be fetched as a whole: %w", err)
	}
	if o.Fetching != nil {
		done, end = o.Fetching(i.Ref.Text, size)
	}
	_, layers := layersOf(d.manifest.Layers, func(ctx context.Context, l v1.Descriptor) (io.ReadCloser, error) {
		rc, err := open(ctx, l)
		if err != nil {
			return nil, err
		}
		return &counted{rc, done}, nil
	})
	start := time.Now()
	_, err := build.Create(ctx, build.Tars(layers...), build.Output{Bootstrap: boot, BlobDir: dir},
		build.Options{Compressor: storage.LZ4Block, Memory: 64 << 20})
	end()
	if err != nil {
		return fmt.Errorf("fetch the whole image, as it is a plain one: %w", asSpaceError(err, o.CacheDir, size))
	}
	o.warn("%s is a plain OCI image without an index: all of its %.1f MiB were fetched and kept in %s, in %v; "+
		"to have it mounted at once everywhere: sluice image create %s --push REPOSITORY:TAG",
		i.Ref, float64(size)/(1<<20), dir, time.Since(start).Round(100*time.Millisecond), i.Ref)
	return nil
}

// counted tells how much was read.
type counted struct {
	io.ReadCloser
	done func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.done(int64(n))
	return n, err
}

func sizeOfFiles(dir string) (n int64) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			n += fi.Size()
		}
	}
	return n
}

// Converted is an image on this machine that was made of a plain one.
type Converted struct {
	Digest  string    `json:"digest"` // of the plain image's manifest
	Size    int64     `json:"size"`   // bytes on disk
	LastUse time.Time `json:"last_use"`
	InUse   bool      `json:"in_use"` // by a mount

	dir string
}

// ListConverted lists the images in the cache directory that were made of
// plain ones.
func ListConverted(cacheDir string) ([]Converted, error) {
	top := filepath.Join(cacheDir, convertedDir)
	list, err := os.ReadDir(top)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all []Converted
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		c := Converted{Digest: "sha256:" + e.Name(), dir: filepath.Join(top, e.Name())}
		c.Size = sizeOfFiles(c.dir)
		for _, name := range []string{convertedBoot, sociSaved} {
			if fi, err := os.Stat(filepath.Join(c.dir, name)); err == nil {
				c.LastUse = fi.ModTime()
			}
		}
		if l, err := tryLock(c.dir); err == nil {
			l.Close()
		} else {
			c.InUse = true
		}
		all = append(all, c)
	}
	return all, err
}

// Remove deletes the image unless it is in use.
func (c *Converted) Remove() error {
	l, err := tryLock(c.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Digest, err)
	}
	defer l.Close()
	// What makes it complete goes first: without that the rest is nothing.
	for _, name := range []string{convertedBoot, sociSaved} {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.RemoveAll(c.dir), os.Remove(lockPath(c.dir)))
}
