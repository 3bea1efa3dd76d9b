package serve

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/cache"
)

// minWhole is the size from which on a file is worth a copy in one piece:
// the pages of smaller ones come in a request or two.
const minWhole = 1 << 20

const (
	quickExtents = 4096             // a key is made during an open of so many
	wholeQueue   = 256              // files that wait to be copied
	wholeKeys    = 1 << 16          // keys that are remembered
	wholePause   = 30 * time.Second // after a copy failed, for want of room for one
)

// wholes lets the kernel read files of an image by itself: those that are all
// in the cache are copied to files of their own, one after another in the
// background, and opens that come after get these (FUSE passthrough). It is
// the imagefs.Passthrough of a mount.
type wholes struct {
	tree   image.Tree
	reader *cache.Reader
	store  *cache.Cache
	dir    string // of the cache
	log    *slog.Logger

	on    atomic.Bool
	state atomic.Pointer[string] // what start has found out
	files atomic.Int64           // copies made by this mount
	bytes atomic.Int64

	ctx   context.Context // ends at Close
	stop  context.CancelFunc
	queue chan uint64
	done  chan struct{}

	mu      sync.Mutex // leaf
	keys    map[uint64]string
	waiting map[uint64]bool // in the queue
}

func newWholes(tree image.Tree, r *cache.Reader, store *cache.Cache, dir string, log *slog.Logger) *wholes {
	w := &wholes{
		tree: tree, reader: r, store: store, dir: dir, log: log,
		queue: make(chan uint64, wholeQueue), done: make(chan struct{}),
		keys: map[uint64]string{}, waiting: map[uint64]bool{},
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	go w.work()
	return w
}

// Close ends the copying and waits for it.
func (w *wholes) Close() error {
	w.stop()
	<-w.done
	return nil
}

// start asks try whether the kernel takes files of the cache's disk, and
// says so if it does not.
func (w *wholes) start(try func(*os.File) error) {
	f, err := os.CreateTemp(w.dir, ".probe-*")
	if err == nil {
		defer f.Close()
		if err = os.Remove(f.Name()); err == nil {
			err = try(f)
		}
	}
	if err != nil {
		state := "off: " + err.Error()
		w.state.Store(&state)
		w.log.Warn("passthrough cannot be had; files are read as without it", "cache", w.dir, "error", err)
		return
	}
	state := "on"
	w.state.Store(&state)
	w.on.Store(true)
}

// stats fills in what is known of passthrough.
func (w *wholes) stats(s *ImageStats) {
	if state := w.state.Load(); state != nil {
		s.Passthrough = *state
	}
	s.WholeFiles, s.WholeBytes = w.files.Load(), w.bytes.Load()
}

// size returns how large the file nid is, 0 if it is none for passthrough.
func (w *wholes) size(nid uint64) int64 {
	var in image.Inode
	if err := w.tree.Stat(nid, &in); err != nil || in.Mode&image.TypeMask != image.TypeRegular || in.Size < minWhole || in.Size > 1<<50 {
		return 0
	}
	return int64(in.Size)
}

// Backing is that of imagefs.Passthrough.
func (w *wholes) Backing(nid uint64) (*os.File, bool) {
	size := w.size(nid)
	if size == 0 {
		return nil, false
	}
	if !w.on.Load() {
		return nil, true
	}
	key, known := w.key(nid, size, quickExtents)
	if key != "" {
		if f, err := w.store.OpenWhole(key, size); err == nil {
			return f, true
		}
	}
	if key != "" || !known {
		w.want(nid)
	}
	return nil, true
}

// Closed is that of imagefs.Passthrough: who has read a file has perhaps
// completed it.
func (w *wholes) Closed(nid uint64) {
	w.mu.Lock()
	key, known := w.keys[nid]
	w.mu.Unlock()
	if size := w.size(nid); w.on.Load() && known && key != "" && size > 0 {
		if f, err := w.store.OpenWhole(key, size); err == nil {
			f.Close()
			return
		}
		w.want(nid)
	}
}

// file describes the file nid for the cache.
func (w *wholes) file(nid uint64, size int64) *cache.Whole {
	return &cache.Whole{Size: size, Extents: func(dst []storage.Extent, off, n int64) ([]storage.Extent, error) {
		return w.tree.Extents(dst, nid, off, n)
	}}
}

// key returns the key of a file, "" if it has none; it is not known if the
// file has more than limit extents.
func (w *wholes) key(nid uint64, size int64, limit int) (key string, known bool) {
	w.mu.Lock()
	key, known = w.keys[nid]
	w.mu.Unlock()
	if known {
		return key, true
	}
	key, err := w.file(nid, size).Key(limit)
	if errors.Is(err, cache.ErrTooMany) {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.keys) >= wholeKeys {
		clear(w.keys)
	}
	w.keys[nid] = key // "" for a file that cannot have one
	return key, true
}

// want puts a file into the queue, if there is room and it is not in it.
func (w *wholes) want(nid uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[nid] {
		return
	}
	select {
	case w.queue <- nid:
		w.waiting[nid] = true
	default: // a later open asks again
	}
}

// work copies files, one after another.
func (w *wholes) work() {
	defer close(w.done)
	for {
		select {
		case <-w.ctx.Done():
			return
		case nid := <-w.queue:
			w.mu.Lock()
			delete(w.waiting, nid)
			w.mu.Unlock()
			if !w.make(nid) {
				select {
				case <-w.ctx.Done():
				case <-time.After(wholePause):
				}
			}
		}
	}
}

// make copies one file, and reports whether there is sense in going on.
func (w *wholes) make(nid uint64) bool {
	size := w.size(nid)
	key, _ := w.key(nid, size, 1<<22)
	if size == 0 || key == "" {
		return true
	}
	made, err := w.reader.MakeWhole(w.ctx, key, w.file(nid, size))
	if made {
		w.files.Add(1)
		w.bytes.Add(size)
	}
	if err == nil || errors.Is(err, cache.ErrNotWhole) || w.ctx.Err() != nil {
		return true
	}
	w.log.Warn("no whole file for passthrough", "inode", nid, "error", err)
	return false
}

// wholeDir is where the cache of c keeps its files.
func (c *Config) wholeDir() string { return filepath.Join(c.Source.CacheDir, "chunks") }
