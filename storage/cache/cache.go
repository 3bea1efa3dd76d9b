// Package cache keeps verified chunks of blobs on local disk and fetches
// those that are missing: it is the [storage.Reader] that an image is served
// from.
//
// A [Cache] is one directory, which several processes may share. A [Reader]
// joins it with the backend of one image. One chunk is fetched once, however
// many readers in however many processes want it; it is verified against the
// image's digest before anyone sees a byte of it; and one that is in several
// images is kept once.
//
// A read of what is there costs a look-up without locks or allocation and
// one pread, straight into the reader's buffer. What is missing is merged
// into ranges, fetched with a bound on memory and requests in flight, users
// first, then read-ahead, then prefetch.
//
// What is kept, and how it survives a crash, is told at type store and in
// docs/formats/cache.md. A full or failing disk stops the keeping, not the
// reading.
//
// Locks, in the order in which they may be taken: Reader.mu, Cache.mu,
// spares.mu, store.mu; all others (gate, slots, chunkMap) are leaves. None is held over
// a fetch; Cache.mu is held while files of a blob are opened.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/codec"
)

// Verify says when chunks that are in the cache are verified again. Chunks
// that come from a backend are verified always.
type Verify uint8

// When cached chunks are verified.
const (
	VerifyFetched Verify = iota // when they are fetched; the index is trusted after that
	VerifyFirst                 // also at the first use after the cache was opened
)

// Options of a Cache. The zero value is the default.
type Options struct {
	Quota       int64         // bytes on disk that are aimed at; 0 means the directory's own, see Limit
	Verify      Verify        // when cached chunks are verified again
	NydusLayout bool          // keep nydusd's chunk_map beside the data, and use what nydusd has put there
	InFlight    int64         // bytes of chunks being fetched at once; default 64 MiB
	Ranges      int           // ranges being fetched at once; default 16
	SyncEvery   time.Duration // how often new chunks are synced; default 5 s
	Log         *slog.Logger  // default slog.Default
}

// Cache is a directory of chunks. Its methods are safe for concurrent use.
type Cache struct {
	o       Options
	log     *slog.Logger
	dir     directory // nil: nothing is kept
	boot    uint64
	seals   sealer
	pool    *buffers
	gate    *gate
	digests digests
	spares  spares
	unkept  unkept
	n       counters
	minute  atomic.Uint32
	used    atomic.Int64 // bytes on disk, as last counted and added to since
	quota   atomic.Int64 // in force, 0 for none

	stores atomic.Pointer[map[string]*store] // by blob id; replaced, never changed
	byName atomic.Pointer[map[string]*store] // by file name, with those opened for their chunks alone

	mu        sync.Mutex // serialises opening of stores and trimming
	stop      context.CancelFunc
	done      chan struct{}
	trimming  atomic.Bool
	trimAfter atomic.Int64 // not before, Unix nanoseconds
	wholeOK   sync.Map     // keys of whole files that were made or verified here
}

// Endings of the files of a blob.
const (
	endData     = ".blob.data"
	endIndex    = ".blob.data.index"
	endExtra    = ".blob.data.extra"
	endChunkMap = ".blob.data.chunk_map"
	endPin      = ".blob.pin"
)

// Open opens the cache in dir, which is made if it is not there and has to
// be the user's own. With dir "" nothing is kept: reads go to the backend,
// verified, one flight per chunk.
func Open(dir string, o Options) (*Cache, error) {
	if dir == "" {
		return open(nil, o)
	}
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	c, err := open(d, o)
	if err != nil {
		d.Close()
	}
	return c, err
}

func open(d directory, o Options) (*Cache, error) {
	if o.InFlight <= 0 {
		o.InFlight = 64 << 20
	}
	if o.Ranges <= 0 {
		o.Ranges = 16
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	c := &Cache{
		o: o, log: o.Log, dir: d, pool: new(buffers),
		seals: sealer{rand.Uint64(), rand.Uint64() | 1, rand.Uint64()},
		gate:  &gate{bytes: o.InFlight, slots: o.Ranges},
		done:  make(chan struct{}),
	}
	c.stores.Store(&map[string]*store{})
	c.byName.Store(&map[string]*store{})
	c.minute.Store(nowMinutes())
	if d != nil {
		c.boot = d.Boot()
		f, err := d.Open(digestFile, true)
		if err != nil {
			return nil, fmt.Errorf("open cache: %w", err)
		}
		c.digests = digests{f}
		c.count()
	}
	c.readLimit()
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	go c.housekeep(ctx)
	return c, nil
}

func nowMinutes() uint32 { return uint32(time.Now().Unix() / 60) }

func (c *Cache) minutes() uint32 { return c.minute.Load() }

// housekeep syncs, counts and trims now and then.
func (c *Cache) housekeep(ctx context.Context) {
	defer close(c.done)
	t := time.NewTicker(c.o.SyncEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c.minute.Store(nowMinutes())
		c.spares.keep()
		if err := c.Sync(); err != nil {
			c.log.Warn("cache: sync", "error", err)
		}
		for _, s := range *c.byName.Load() {
			if s.data != nil { // else it has no files: the disk did not let it
				s.refresh()
			}
		}
		c.readLimit()
		if c.quota.Load() > 0 {
			c.count()
			c.trimIfFull(0)
		}
	}
}

// Sync makes what has been kept so far survive a loss of power.
func (c *Cache) Sync() error {
	var errs []error
	for _, s := range *c.byName.Load() {
		if s.data != nil {
			errs = append(errs, s.sync())
		}
	}
	return errors.Join(errs...)
}

// Close syncs and closes all files. All Readers are closed before.
func (c *Cache) Close() error {
	c.stop()
	<-c.done
	c.spares.drop(nil)
	errs := []error{c.Sync()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range *c.byName.Load() {
		errs = append(errs, s.closeFiles())
	}
	c.stores.Store(&map[string]*store{})
	c.byName.Store(&map[string]*store{})
	if c.dir != nil {
		errs = append(errs, c.digests.f.Close(), c.dir.Close())
	}
	return errors.Join(errs...)
}

// Stats returns the counts of all readers together.
func (c *Cache) Stats() Stats { return c.n.stats() }

// Used returns the bytes on disk, as far as this process knows.
func (c *Cache) Used() int64 { return c.used.Load() }

// fileName is what a blob's files are called: its id, or the hash of an id
// that cannot be a file's name.
func fileName(id string) string {
	if backend.ValidID(id) && len(id) <= 200 {
		return id
	}
	d := codec.Sum([]byte(id), storage.SHA256)
	return fmt.Sprintf("x-%x", d.Sum[:])
}

// reopenAfter is how long a blob that could not be opened on disk is read
// without one.
const reopenAfter = 10 * time.Second

// store returns the store of a blob, which is opened at first use. Where the
// disk does not let it, the store has no files.
func (c *Cache) store(b *storage.Blob) *store {
	if s := (*c.stores.Load())[b.ID]; s != nil {
		if s.data != nil || c.dir == nil || time.Now().UnixNano() < s.reopen.Load() {
			return s
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := (*c.stores.Load())[b.ID]
	if old != nil && (old.data != nil || c.dir == nil || time.Now().UnixNano() < old.reopen.Load()) {
		return old
	}
	name := fileName(b.ID)
	s := (*c.byName.Load())[name]
	if s == nil || s.data == nil {
		if s = c.openFor(b, name); old != nil && s.data == nil {
			old.reopen.Store(s.reopen.Load())
			return old // keeps its flights
		}
	}
	c.publish(b.ID, name, s)
	return s
}

// openFor opens the store of a blob. mu is held.
func (c *Cache) openFor(b *storage.Blob, name string) *store {
	if c.dir == nil {
		return &store{c: c, name: name, flights: make(map[uint64]*flight)}
	}
	s, err := c.openStore(name, true)
	if err == nil && c.o.NydusLayout && b.ChunkCount > 0 {
		if s.bits, err = openChunkMap(c.dir, name, b.ChunkCount); err != nil {
			c.log.Warn("cache: chunk_map is left alone", "blob", b.ID, "error", err)
			err = nil
		}
		if size, e := s.data.Size(); e == nil && size < b.UncompressedSize && b.UncompressedSize <= maxDataSize {
			err = s.data.Truncate(b.UncompressedSize) // the size nydusd expects
		}
	}
	if err != nil {
		c.log.Warn("cache: reading without keeping", "blob", b.ID, "error", err)
		s = &store{c: c, name: name, flights: make(map[uint64]*flight)}
		s.reopen.Store(time.Now().Add(reopenAfter).UnixNano())
	}
	return s
}

// publish makes a store known. mu is held.
func (c *Cache) publish(id, name string, s *store) {
	byName := maps.Clone(*c.byName.Load())
	byName[name] = s
	c.byName.Store(&byName)
	if id != "" {
		byID := maps.Clone(*c.stores.Load())
		byID[id] = s
		c.stores.Store(&byID)
	}
}

// storeByHash returns the store whose name has that hash, opened if need be,
// or nil.
func (c *Cache) storeByHash(hash uint32) *store {
	for name, s := range *c.byName.Load() {
		if nameHash(name) == hash && s.data != nil {
			return s
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	names, err := c.blobNames()
	if err != nil {
		return nil
	}
	for _, name := range names {
		if nameHash(name) != hash {
			continue
		}
		if s := (*c.byName.Load())[name]; s != nil && s.data != nil {
			return s
		}
		if s, err := c.openStore(name, false); err == nil {
			c.publish("", name, s)
			return s
		}
	}
	return nil
}

// ChunkError is a chunk that could not be had.
type ChunkError struct {
	Op    string // "check", "fetch", "decode", "verify"
	Blob  string // id, as in the image
	Chunk uint32 // index in the blob's chunk table
	Err   error
}

func (e *ChunkError) Error() string {
	return fmt.Sprintf("%s blob %s chunk %d: %v", e.Op, e.Blob, e.Chunk, e.Err)
}

func (e *ChunkError) Unwrap() error { return e.Err }

// ErrClosed is the error of reads of a closed Reader.
var ErrClosed = fmt.Errorf("cache reader: %w", os.ErrClosed)
