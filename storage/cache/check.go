package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sluicefs/sluice/storage/codec"
)

// Entry is one blob in a cache, or a whole file.
type Entry struct {
	Name    string    `json:"name"`     // the blob's id, or what stands for it; of a whole file its key and ".whole"
	Chunks  int       `json:"chunks"`   // that are there
	Bytes   int64     `json:"bytes"`    // of them, uncompressed
	OnDisk  int64     `json:"on_disk"`  // bytes that the blob's files take
	LastUse time.Time `json:"last_use"` // of any chunk, to the minute
	InUse   bool      `json:"in_use"`   // by some process, this one included
	Pinned  bool      `json:"pinned"`
}

// List returns what the cache has: the blobs by name, then the whole files,
// the least recently used first.
func (c *Cache) List() ([]Entry, error) {
	if c.dir == nil {
		return nil, errNoDir
	}
	names, err := c.blobNames()
	if err != nil {
		return nil, err
	}
	list := []Entry{}
	for _, name := range names {
		e, err := c.entry(name)
		if missing(err) {
			continue // went meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	whole, err := c.wholes()
	return append(list, whole...), err
}

// entry looks at one blob without being among those who use it.
func (c *Cache) entry(name string) (e Entry, err error) {
	e = Entry{Name: name, Pinned: c.Pinned(name)}
	s := &store{c: c, name: name}
	defer func() { err = errors.Join(err, s.closeFiles()) }()
	if s.idx, err = c.dir.Open(name+endIndex, false); err != nil {
		return e, err
	}
	idle, err := s.idx.TryLock(true)
	if err != nil {
		return e, err
	}
	e.InUse = !idle
	if s.data, err = c.dir.Open(name+endData, false); err != nil {
		return e, err
	}
	if f, err := c.dir.Open(name+endExtra, false); err == nil {
		s.extra = f
	}
	var last uint32
	err = s.eachRecord(func(_ uint32, r record) {
		e.Chunks++
		e.Bytes += int64(r.size)
		last = max(last, r.access)
	})
	e.LastUse = time.Unix(int64(last)*60, 0)
	for _, f := range []file{s.data, s.idx, s.extra} {
		if f != nil {
			n, _ := f.Blocks()
			e.OnDisk += n
		}
	}
	return e, err
}

// Report is what Check has found.
type Report struct {
	Blobs   int   `json:"blobs"`
	Chunks  int   `json:"chunks"` // verified
	Files   int   `json:"files"`  // whole files, verified
	Bytes   int64 `json:"bytes"`
	Damaged []Bad `json:"damaged"` // and taken out
}

// Bad is a chunk whose bytes are not what the index says.
type Bad struct {
	Name   string `json:"name"`
	Chunk  uint32 `json:"chunk"`
	Digest string `json:"digest"` // what it should have
}

// Check verifies every chunk and whole file of the cache, or of what is called
// names, and takes out what is damaged; processes that use such a blob fetch it again.
// progress, if not nil, is told the bytes that have been verified so far.
func (c *Cache) Check(ctx context.Context, names []string, progress func(bytes int64)) (*Report, error) {
	if c.dir == nil {
		return nil, errNoDir
	}
	given := len(names) > 0
	if !given {
		var err error
		if names, err = c.blobNames(); err != nil {
			return nil, err
		}
	}
	rep := &Report{Damaged: []Bad{}}
	for _, name := range names {
		if strings.HasSuffix(name, endWhole) {
			continue
		}
		s, err := c.openStore(name, false)
		if missing(err) && !given || errors.Is(err, errBusy) {
			continue // evicted meanwhile
		}
		if err != nil {
			return rep, fmt.Errorf("blob %s: %w", name, err)
		}
		err = errors.Join(s.check(ctx, rep, progress), s.closeFiles())
		if err != nil {
			return rep, fmt.Errorf("blob %s: %w", name, err)
		}
		rep.Blobs++
	}
	if !given {
		names = nil
	}
	return rep, c.checkWholes(ctx, names, rep)
}

func (s *store) check(ctx context.Context, rep *Report, progress func(int64)) error {
	if f, err := s.c.dir.Open(s.name+endExtra, false); err == nil {
		s.extra = f
	}
	var bad []victim
	err := s.eachRecord(func(i uint32, r record) {
		if ctx.Err() != nil {
			return
		}
		rep.Chunks++
		rep.Bytes += int64(r.size)
		if !s.holds(i, &r) {
			bad = append(bad, victim{s: s, i: i, rec: r})
		}
		if progress != nil {
			progress(rep.Bytes)
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	taken := 0
	for _, v := range bad {
		out, e := s.takeOut(v)
		err = errors.Join(err, e)
		if out {
			taken++
			rep.Damaged = append(rep.Damaged, Bad{s.name, v.i, v.rec.digest.String()})
		}
	}
	if taken > 0 {
		err = errors.Join(err, s.dropBits(bad), s.raise())
	}
	return err
}

// holds reports whether the bytes of record r are what it says.
func (s *store) holds(i uint32, r *record) bool {
	b := s.c.pool.get(int(r.size))
	defer s.c.pool.put(b)
	if err := s.read(b, i, r.offset, 0, r.flags&inExtra != 0); err != nil {
		return false
	}
	return codec.Sum(b, r.digest.Algorithm) == r.digest
}

// takeOut withdraws a damaged chunk, unless another process is writing it or
// has just done so.
func (s *store) takeOut(v victim) (bool, error) {
	if !s.lockChunk(v.i) {
		return false, nil
	}
	defer s.unlockChunk(v.i)
	if r := s.record(v.i); r.state == absent || s.holds(v.i, &r) {
		return false, nil
	}
	return true, s.withdraw(v.i)
}

// Remove takes the blobs and whole files called names out of the cache. One that is pinned
// or in use is an error, one that is not there fs.ErrNotExist.
func (c *Cache) Remove(names ...string) error {
	if c.dir == nil {
		return errNoDir
	}
	var errs []error
	for _, name := range names {
		if err := c.remove(name); err != nil {
			errs = append(errs, fmt.Errorf("blob %s: %w", name, err))
		}
	}
	c.count()
	return errors.Join(errs...)
}

func (c *Cache) remove(name string) error {
	if c.Pinned(name) {
		return errors.New("is pinned")
	}
	if strings.HasSuffix(name, endWhole) {
		err := c.dir.Remove(name)
		if missing(err) {
			return fs.ErrNotExist
		}
		return err
	}
	f, err := c.dir.Open(name+endIndex, false)
	if missing(err) {
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	defer f.Close()
	idle, err := f.TryLock(true)
	if err != nil {
		return err
	}
	if !idle {
		return errors.New("is in use")
	}
	return c.removeBlob(name)
}
