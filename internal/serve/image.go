package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagefs"
	"github.com/sluicefs/sluice/image/profile"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/cache"
)

// ImageFS is an image with its store and its file system, and what is known
// of its use. It is the Inspector of its mount.
type ImageFS struct {
	Image *source.Image
	FS    *imagefs.FS

	reader   *cache.Reader
	meter    *meter
	recorder *recorder
	pre      *prefetcher
	wholes   *wholes // nil without passthrough
	log      *slog.Logger

	logMu  sync.Mutex
	logged time.Time // when an error was logged last
	muted  int       // errors since
}

func (t *Target) openImage(ctx context.Context, ref source.Ref, c Config) error {
	img, err := source.OpenImage(ctx, ref, c.Source)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, img)
	if c.Cache.Log == nil {
		c.Cache.Log = c.Log
	}
	store, err := openStore(filepath.Join(c.Source.CacheDir, "chunks"), c.Cache)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, store)
	return t.show(img, store, c)
}

// NewImage prepares a file system of an image that is open, with a store that
// other images may share. Closing the target closes neither.
func NewImage(img *source.Image, store *cache.Cache, c Config) (*Target, error) {
	c.Passthrough = "off" // it takes a mount of the image's own
	t := &Target{}
	if err := t.show(img, store, c); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// show makes the file system of an image.
func (t *Target) show(img *source.Image, store *cache.Cache, c Config) error {
	i := &ImageFS{Image: img, log: c.Log, recorder: &recorder{all: c.Record, first: map[fileRange]time.Time{}}}
	if i.log == nil {
		i.log = slog.Default()
	}
	i.reader = store.Reader(img.Backend, c.Fetch)
	t.closers = append(t.closers, i.reader)
	i.meter = newMeter(i.reader, img.Tree.Blobs())
	if c.Fetch.Window >= 0 {
		i.recorder.programs = newPrograms(img.Tree, i.reader, i.log)
		t.closers = append(t.closers, i.recorder.programs)
	}
	var looked func()
	if tree, ok := img.Tree.(image.Trimmer); ok {
		t.closers = append(t.closers, keepSmall(tree))
		looked = trimIfLarge
	}
	noXattrs := !hasXattrs(img.Tree.Info())
	o := imagefs.Options{
		CacheTimeout: c.CacheTimeout, UID: c.UID, GID: c.GID,
		Observer: i.recorder, OnError: i.logError, Looked: looked, NoXattrs: noXattrs,
	}
	if c.Passthrough == "on" {
		i.wholes = newWholes(img.Tree, i.reader, store, c.wholeDir(), i.log)
		t.closers = append(t.closers, i.wholes)
		o.Passthrough = i.wholes
	}
	i.FS = imagefs.New(img.Tree, i.meter, o)
	var prof *profile.Profile
	if c.Profile != "" {
		p, err := profile.Load(c.Profile)
		if err != nil {
			return err
		}
		prof = p
	} else if len(c.PrefetchPaths) > 0 {
		prof = new(profile.Profile)
		for _, path := range c.PrefetchPaths {
			prof.Reads = append(prof.Reads, profile.Read{Path: path})
		}
	}
	i.pre = newPrefetcher(img.Tree, i.reader, c.Prefetch, prof, img.Ahead, i.log)
	t.closers = append(t.closers, i.pre)
	t.FS, t.Image, t.Type = i.FS, i, "image"
	t.Fuse.Options = append(t.Fuse.Options, "ro", "default_permissions")
	t.Fuse.EnableSymlinkCaching = true
	t.Fuse.EnableAcl = !noXattrs
	t.Fuse.MaxBackground = 64
	return nil
}

// hasXattrs reports whether some inode may have extended attributes.
func hasXattrs(info image.Info) bool {
	if strings.HasPrefix(info.Format, "rafs") {
		return info.Flags&uint64(rafs.HasXattr) != 0
	}
	return true
}

// Start begins to fetch ahead. Call it once the mount is ready.
func (i *ImageFS) Start() {
	if i.wholes != nil {
		i.wholes.start(i.FS.TryPassthrough)
	}
	i.pre.start()
}

// Profile returns what has been read so far, for a target with Config.Record.
func (i *ImageFS) Profile() (*profile.Profile, error) {
	p, err := i.recorder.profile(i.Image.Tree)
	if err != nil {
		return nil, err
	}
	p.Image, p.Digest = i.Image.Ref.Text, i.Image.Digest
	return p, nil
}

// logError logs a failed request, at most one line per second: an outage
// would else fill the log with the same.
func (i *ImageFS) logError(op string, nid uint64, err error) {
	i.logMu.Lock()
	if time.Since(i.logged) < time.Second {
		i.muted++
		i.logMu.Unlock()
		return
	}
	muted := i.muted
	i.logged, i.muted = time.Now(), 0
	i.logMu.Unlock()
	args := []any{"op", op, "inode", nid, "error", err}
	if muted > 0 {
		args = append(args, "similar", muted)
	}
	i.log.Error("request failed", args...)
}

// Stats is that of Inspector.
func (i *ImageFS) Stats(s *Stats) {
	info := i.Image.Tree.Info()
	c := i.reader.Stats()
	n := i.FS.Counts()
	out := &ImageStats{
		Format: info.Format, Digest: i.Image.Digest, Inodes: info.Inodes,
		StoredBytes: i.stored(), MetadataBytes: info.Size,
		FetchedBytes: int64(c.BytesFetched), FetchedRequests: int64(c.Requests),
		TouchedBytes: i.meter.touched.Load(),
		ReadRequests: int64(n.Reads), ReadBytes: int64(n.ReadBytes),
		PrefetchState: i.pre.state(), PrefetchBytes: int64(c.BytesPrefetch),
	}
	if i.wholes != nil {
		out.PassthroughOpens = int64(n.Passthrough)
		i.wholes.stats(out)
	}
	if out.TouchedBytes > 0 {
		out.Amplification = float64(out.FetchedBytes) / float64(out.TouchedBytes)
	}
	if hits, misses := i.meter.hits.Load(), i.meter.misses.Load(); hits+misses > 0 {
		out.HitRate = float64(hits) / float64(hits+misses)
	}
	out.SlowReads = i.recorder.slowest(func(nid uint64) string {
		p, err := image.PathOf(i.Image.Tree, nid)
		if err != nil {
			return nidName(nid)
		}
		return p
	})
	s.Image = out
}

// stored is how many bytes all blobs have.
func (i *ImageFS) stored() int64 {
	if i.Image.Stored > 0 {
		return i.Image.Stored
	}
	n := int64(0)
	for _, b := range i.Image.Tree.Blobs() {
		n += b.Size
	}
	return n
}

// Why is that of Inspector.
func (i *ImageFS) Why(_ context.Context, path string) (*Why, error) {
	tree := i.Image.Tree
	nid, err := image.Find(tree, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: not in the image", path)
	}
	if err != nil {
		return nil, err
	}
	var in image.Inode
	if err := tree.Stat(nid, &in); err != nil {
		return nil, err
	}
	w := &Why{Path: "/" + path, Type: typeName(in.Mode), Size: int64(in.Size)}
	if in.Mode&image.TypeMask != image.TypeRegular {
		w.Reasons = []string{"it has no data: its metadata came with the bootstrap"}
		return w, nil
	}
	if _, inline, err := tree.Inline(nil, nid, 0); err != nil || inline {
		w.Reasons = []string{"its data lies in the metadata, which came with the bootstrap"}
		return w, err
	}
	w.Reads = i.recorder.spans(nid)
	w.Prefetch = i.pre.wants(nid)
	return w, i.whyChunks(w, nid, int64(in.Size))
}

// whyStep is how much of a file is looked at in one go.
const whyStep = 256 << 20

// whyChunks counts the chunks of a file and says where they came from.
func (i *ImageFS) whyChunks(w *Why, nid uint64, size int64) error {
	blobs := map[string]bool{}
	var ext []storage.Extent
	var err error
	for off := int64(0); off < size; off += whyStep {
		ext, err = i.Image.Tree.Extents(ext[:0], nid, off, whyStep)
		if err != nil {
			return err
		}
		for k := range ext {
			if ext[k].Hole() {
				continue
			}
			c := &ext[k].Chunk
			w.Chunks++
			w.StoredBytes += int64(c.Size)
			w.Prefetch = w.Prefetch || i.pre.names(c)
			if i.reader.Present(c) {
				w.Present++
				w.PresentBytes += int64(c.Size)
			}
			if i.meter.wasTouched(c) {
				w.Touched++
			}
			if !blobs[c.Blob.ID] {
				blobs[c.Blob.ID] = true
				w.Blobs = append(w.Blobs, c.Blob.ID)
			}
		}
	}
	w.Reasons = w.reasons()
	return nil
}

// reasons puts the counts into words.
func (w *Why) reasons() []string {
	var out []string
	switch {
	case w.Chunks == 0:
		out = append(out, "it is empty, or all of it is a hole: there is nothing to fetch")
	case w.Present == 0:
		out = append(out, "not fetched: nobody has read it, and nothing asked for it ahead")
	case w.Touched > 0:
		out = append(out, fmt.Sprintf("fetched because it was read: %d of its chunks", w.Touched))
	}
	if extra := w.Present - w.Touched; extra > 0 {
		why := "they were in the cache before, are shared with another file, or came along with a neighbour"
		if w.Prefetch {
			why = "they were fetched ahead"
		}
		out = append(out, fmt.Sprintf("%d chunks are here that were not read through this mount: %s", extra, why))
	}
	if missing := w.Touched - w.Present; missing > 0 {
		out = append(out, fmt.Sprintf("%d chunks were read and are not kept: the disk is full, or they were evicted", missing))
	}
	return out
}

func typeName(mode uint32) string {
	switch mode & image.TypeMask {
	case image.TypeRegular:
		return "file"
	case image.TypeDirectory:
		return "directory"
	case image.TypeSymlink:
		return "symbolic link"
	}
	return "special file"
}
