package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sluicefs/sluice/storage"
)

// endWhole is the ending of a whole file: a copy of one file of an image in
// one piece, which the kernel can read from by itself. Its name is the key of
// [Whole.Key], so all images that have the file share it, and all processes.
//
// A whole file is written without a name, from verified chunks, synced, and
// linked when it is complete: a name stands for all of its bytes. It is
// read-only and keeps the BLAKE3 of its bytes in an extended attribute, for
// Check. It may be removed at any time: who has it open goes on with it.
const endWhole = ".whole"

// Whole is a file of an image as chunks.
type Whole struct {
	Size int64 // bytes
	// Extents appends the extents of the file's bytes from off on, n of them
	// or up to the end, as image.Tree.Extents does.
	Extents func(dst []storage.Extent, off, n int64) ([]storage.Extent, error)
}

// Why there is no key, or no whole file.
var (
	ErrTooMany  = errors.New("file has too many extents")
	ErrNotWhole = errors.New("file is not all in the cache")
)

// wholeStep is how much of a file's extents is looked at in one go.
const wholeStep = 64 << 20

var (
	errNoDigest  = errors.New("file has chunks without digests")
	errNoRoom    = errors.New("no room for a whole file")
	errBadExtent = errors.New("extents do not cover the file")
)

// each calls f for all extents of the file, in order; more than limit of them
// are an error.
func (w *Whole) each(limit int, f func(e *storage.Extent) error) error {
	var ext []storage.Extent
	at := int64(0)
	for at < w.Size {
		var err error
		if ext, err = w.Extents(ext[:0], at, min(wholeStep, w.Size-at)); err != nil {
			return err
		}
		if limit -= len(ext); limit < 0 {
			return ErrTooMany
		}
		before := at
		for i := range ext {
			if ext[i].FileOffset != at || ext[i].Length <= 0 || ext[i].Length > w.Size-at {
				return errBadExtent
			}
			at += ext[i].Length
			if err := f(&ext[i]); err != nil {
				return err
			}
		}
		if at == before {
			return errBadExtent
		}
	}
	return nil
}

// Key returns the name that stands for the file's bytes: a digest of its size
// and of the digests of its chunks. A file with chunks that have none has no
// key, and one of more than limit extents none that is worth its time.
func (w *Whole) Key(limit int) (string, error) {
	h := blake3.New()
	var b [64]byte
	binary.LittleEndian.PutUint64(b[:], uint64(w.Size))
	h.Write(b[:8])
	err := w.each(limit, func(e *storage.Extent) error {
		clear(b[:])
		binary.LittleEndian.PutUint64(b[0:], uint64(e.Length))
		if !e.Hole() {
			c := &e.Chunk
			if c.Flags&storage.HasDigest == 0 || c.Flags&storage.StoredDigest != 0 {
				return errNoDigest
			}
			binary.LittleEndian.PutUint32(b[8:], e.ChunkOffset)
			binary.LittleEndian.PutUint32(b[12:], c.UncompressedSize)
			b[16], b[17] = 1, byte(c.Digest.Algorithm)
			copy(b[24:], c.Digest.Sum[:])
		}
		h.Write(b[:])
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:32]), nil
}

// wholeDir is a directory that can have whole files.
type wholeDir interface {
	// OpenWhole opens a whole file that is what it has to be but for its
	// bytes, and notes its use; sum is what they have to have.
	OpenWhole(name string) (f *os.File, sum []byte, err error)
	// MakeWhole makes a whole file of size bytes, which fill writes. dense
	// says that it has no holes.
	MakeWhole(name string, size int64, dense bool, fill func(f *os.File) (sum []byte, err error)) error
	// StatWhole tells of a whole file without opening it.
	StatWhole(name string) (size, onDisk int64, used time.Time, err error)
	Remove(name string) error
}

// OpenWhole opens the whole file with that key for reading. One that is not
// there, or not yet verified with VerifyFirst, is fs.ErrNotExist; one that is
// damaged is removed. The file is the caller's.
func (c *Cache) OpenWhole(key string, size int64) (*os.File, error) {
	f, _, err := c.openWhole(key, size)
	if err == nil && c.o.Verify == VerifyFirst {
		if _, ok := c.wholeOK.Load(key); !ok {
			f.Close()
			return nil, fs.ErrNotExist
		}
	}
	return f, err
}

func (c *Cache) openWhole(key string, size int64) (*os.File, []byte, error) {
	d, ok := c.dir.(wholeDir)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	f, sum, err := d.OpenWhole(key + endWhole)
	if err == nil {
		var fi os.FileInfo
		if fi, err = f.Stat(); err == nil && fi.Size() == size {
			return f, sum, nil
		}
		f.Close()
		err = errors.Join(errUnsafe, err)
	}
	if !missing(err) {
		c.n.damaged.Add(1)
		c.log.Warn("cache: whole file is damaged and removed", "file", key+endWhole, "error", err)
		if e := d.Remove(key + endWhole); e != nil && !missing(e) {
			return nil, nil, e
		}
	}
	return nil, nil, fs.ErrNotExist
}

// MakeWhole makes the whole file with that key if all of w's bytes are in the
// cache and there is room for a copy. It fetches nothing and evicts nothing,
// and ends early when ctx does. One that is there is left alone, and made is
// false.
func (r *Reader) MakeWhole(ctx context.Context, key string, w *Whole) (made bool, err error) {
	c := r.c
	d, ok := c.dir.(wholeDir)
	if !ok {
		return false, errors.ErrUnsupported
	}
	if f, sum, err := c.openWhole(key, w.Size); err == nil {
		err = c.verifyWhole(ctx, f, sum)
		f.Close()
		if err == nil {
			c.wholeOK.Store(key, true)
			return false, nil
		}
		if ctx.Err() != nil {
			return false, err
		}
		if err := d.Remove(key + endWhole); err != nil && !missing(err) {
			return false, err
		}
	}
	var bytes int64
	err = w.each(maxChunks, func(e *storage.Extent) error {
		if e.Hole() {
			return nil
		}
		bytes += e.Length
		if !r.Present(&e.Chunk) {
			return ErrNotWhole
		}
		return ctx.Err()
	})
	if err != nil {
		return false, err
	}
	if q := c.quota.Load(); q > 0 && c.used.Load()+bytes > q {
		return false, errNoRoom
	}
	err = d.MakeWhole(key+endWhole, w.Size, bytes == w.Size, func(f *os.File) ([]byte, error) { return r.fill(ctx, f, w) })
	if err == nil {
		c.used.Add(bytes)
		c.wholeOK.Store(key, true)
	}
	return err == nil, err
}

// fill writes the bytes of w to f and returns their BLAKE3.
func (r *Reader) fill(ctx context.Context, f *os.File, w *Whole) ([]byte, error) {
	h := blake3.New()
	b := r.c.pool.get(1 << 20)
	defer r.c.pool.put(b)
	var ext []storage.Extent
	for at := int64(0); at < w.Size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := b[:min(int64(len(b)), w.Size-at)]
		var err error
		if ext, err = w.Extents(ext[:0], at, int64(len(p))); err != nil {
			return nil, err
		}
		if done, err := r.ReadPresent(p, ext); err != nil || !done {
			return nil, errors.Join(ErrNotWhole, err) // evicted meanwhile
		}
		h.Write(p)
		if slices.ContainsFunc(ext, func(e storage.Extent) bool { return !e.Hole() }) {
			if _, err := f.WriteAt(p, at); err != nil {
				return nil, err
			}
		}
		at += int64(len(p))
	}
	return h.Sum(nil)[:32], nil
}

// verifyWhole compares the bytes of a whole file with their digest, if that
// was asked for by Options.Verify.
func (c *Cache) verifyWhole(ctx context.Context, f *os.File, sum []byte) error {
	if c.o.Verify != VerifyFirst {
		return nil
	}
	return wholeHas(ctx, f, sum)
}

// wholeHas reports whether the bytes of f have that BLAKE3.
func wholeHas(ctx context.Context, f *os.File, sum []byte) error {
	h := blake3.New()
	if err := hashFile(ctx, h, f); err != nil {
		return err
	}
	if !slices.Equal(h.Sum(nil)[:32], sum) {
		return errUnsafe
	}
	return nil
}

func hashFile(ctx context.Context, h hash.Hash, f *os.File) error {
	b := make([]byte, 1<<20)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(b, at)
		h.Write(b[:n])
		at += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// wholes lists the whole files, the least recently used first.
func (c *Cache) wholes() ([]Entry, error) {
	d, ok := c.dir.(wholeDir)
	if !ok {
		return nil, nil
	}
	names, err := c.dir.Names()
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, name := range names {
		if !strings.HasSuffix(name, endWhole) {
			continue
		}
		if size, onDisk, used, err := d.StatWhole(name); err == nil {
			list = append(list, Entry{Name: name, Bytes: size, OnDisk: onDisk, LastUse: used, Pinned: c.Pinned(name)})
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return a.LastUse.Compare(b.LastUse) })
	return list, nil
}

// trimWholes removes whole files, the least recently used first, until the
// cache takes no more than limit bytes or none is left: they are copies of
// chunks, and go before those.
func (c *Cache) trimWholes(limit int64) (freed int64, err error) {
	list, err := c.wholes()
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		if c.used.Load() <= limit {
			break
		}
		if e.Pinned {
			continue
		}
		if err := c.dir.Remove(e.Name); err != nil && !missing(err) {
			return freed, err
		}
		freed += e.OnDisk
		c.used.Add(-e.OnDisk)
		c.n.evicted.Add(1)
	}
	return freed, nil
}

// checkWholes verifies the whole files, or those among names, and removes
// what is damaged.
func (c *Cache) checkWholes(ctx context.Context, names []string, rep *Report) error {
	list, err := c.wholes()
	if err != nil {
		return err
	}
	for _, e := range list {
		if len(names) > 0 && !slices.Contains(names, e.Name) {
			continue
		}
		f, sum, err := c.openWhole(strings.TrimSuffix(e.Name, endWhole), e.Bytes)
		if err == nil {
			err = wholeHas(ctx, f, sum)
			f.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rep.Files++
		rep.Bytes += e.Bytes
		if err == nil {
			continue
		}
		rep.Damaged = append(rep.Damaged, Bad{Name: e.Name, Digest: fmt.Sprintf("blake3:%x", sum)})
		if err := c.dir.Remove(e.Name); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}
