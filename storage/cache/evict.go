package cache

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// blobNames lists the blobs of the directory by file name.
func (c *Cache) blobNames() ([]string, error) {
	names, err := c.dir.Names()
	var blobs []string
	for _, n := range names {
		if b, ok := strings.CutSuffix(n, endIndex); ok {
			blobs = append(blobs, b)
		}
	}
	slices.Sort(blobs)
	return blobs, err
}

// count counts the bytes that the directory takes on disk.
func (c *Cache) count() {
	names, err := c.dir.Names()
	if err != nil {
		return
	}
	var sum int64
	for _, n := range names {
		if !strings.HasSuffix(n, endData) && !strings.HasSuffix(n, endExtra) && !strings.HasSuffix(n, endIndex) {
			continue
		}
		if f, err := c.dir.Open(n, false); err == nil {
			if b, err := f.Blocks(); err == nil {
				sum += b
			}
			f.Close()
		}
	}
	whole, _ := c.wholes()
	for i := range whole {
		sum += whole[i].OnDisk
	}
	c.used.Store(sum)
}

// added notes that n bytes were kept.
func (c *Cache) added(n int64) {
	c.n.stored.Add(uint64(n))
	c.used.Add(n)
}

// room reports whether n more bytes may be kept, and makes some if not.
func (c *Cache) room(n int64) bool {
	if c.quota.Load() <= 0 {
		return true
	}
	c.trimIfFull(n)
	return c.used.Load()+n <= c.quota.Load()
}

// trimPause is how long nothing is looked for to evict after nothing was
// found.
const trimPause = 5 * time.Second

// trimIfFull trims to 9/10 of the quota when n more bytes would exceed it.
// One caller does it, the others go on.
func (c *Cache) trimIfFull(n int64) {
	now, quota := time.Now().UnixNano(), c.quota.Load()
	if c.used.Load()+n <= quota || now < c.trimAfter.Load() || !c.trimming.CompareAndSwap(false, true) {
		return
	}
	defer c.trimming.Store(false)
	if _, err := c.Trim(quota / 10 * 9); err != nil {
		c.log.Warn("cache: evict", "error", err)
	}
	if c.used.Load()+n > quota { // all is in use: look again later
		c.trimAfter.Store(now + int64(trimPause))
	}
}

// victim is a chunk that may be evicted.
type victim struct {
	s      *store
	i      uint32
	access uint32
	rec    record
}

// Trim evicts whole files and then chunks, the least recently used first, until the cache takes
// no more than limit bytes on disk, and returns how many bytes it gave back.
// Chunks of blobs that are pinned or in use by any process are kept: the
// cache may stay larger than limit.
func (c *Cache) Trim(limit int64) (freed int64, err error) {
	if c.dir == nil {
		return 0, nil
	}
	c.count()
	wholes, err := c.trimWholes(limit)
	if err != nil || c.used.Load() <= limit {
		return wholes, err
	}
	names, err := c.blobNames()
	if err != nil {
		return wholes, err
	}
	var idle []*store
	defer func() {
		for _, s := range idle {
			err = errors.Join(err, s.closeFiles())
		}
		c.count()
	}()
	var all []victim
	for _, name := range names {
		if c.Pinned(name) {
			continue
		}
		s, ok := c.openIdle(name)
		if !ok {
			continue
		}
		idle = append(idle, s)
		s.eachRecord(func(i uint32, r record) { all = append(all, victim{s, i, r.access, r}) })
	}
	slices.SortFunc(all, func(a, b victim) int { return int(int64(a.access) - int64(b.access)) })
	over := c.used.Load() - limit
	n := 0
	for ; n < len(all) && freed < over; n++ {
		freed += (int64(all[n].rec.size) + ownerBlock - 1) / ownerBlock * ownerBlock
	}
	return wholes + freed, c.evict(all[:n], idle)
}

// openIdle opens the store of a blob that nobody uses, and keeps others from
// beginning to.
func (c *Cache) openIdle(name string) (*store, bool) {
	s := &store{c: c, name: name}
	var err error
	if s.idx, err = c.dir.Open(name+endIndex, false); err != nil {
		return nil, false
	}
	if ok, err := s.idx.TryLock(true); err != nil || !ok {
		s.closeFiles()
		return nil, false
	}
	if s.data, err = c.dir.Open(name+endData, false); err != nil {
		if missing(err) { // an index of nothing
			c.removeBlob(name)
		}
		s.closeFiles()
		return nil, false
	}
	if s.extra, err = c.dir.Open(name+endExtra, false); err != nil {
		s.extra = nil
	}
	return s, true
}

// evict takes chunks out: first the records, for good, then the data. Blobs
// that are empty after it go as a whole.
func (c *Cache) evict(victims []victim, idle []*store) error {
	var errs []error
	for _, s := range idle {
		s.withdrawn = false
	}
	for _, v := range victims {
		if _, err := v.s.idx.WriteAt(make([]byte, recordSize), indexRecords+int64(v.i)*recordSize); err != nil {
			errs = append(errs, err)
		}
		v.s.withdrawn = true
	}
	for _, s := range idle {
		if s.withdrawn {
			errs = append(errs, s.idx.Sync(), s.dropBits(victims))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, v := range victims {
		errs = append(errs, v.s.punch(v.i, &v.rec))
		c.n.evicted.Add(1)
	}
	for _, s := range idle {
		if empty := true; s.withdrawn {
			s.eachRecord(func(uint32, record) { empty = false })
			if empty {
				errs = append(errs, c.removeBlob(s.name))
			}
		}
	}
	return errors.Join(errs...)
}

// dropBits takes the store's victims out of nydusd's map, if there is one.
func (s *store) dropBits(victims []victim) error {
	f, err := s.c.dir.Open(s.name+endChunkMap, false)
	if err != nil {
		return nil
	}
	size, err := f.Size()
	if err != nil || size < chunkMapHeader {
		return errors.Join(err, f.Close())
	}
	m := &chunkMap{f: f, count: uint32(min((size-chunkMapHeader)*8, maxChunks))}
	errs := []error{m.clearAll()}
	for _, v := range victims {
		if v.s == s {
			errs = append(errs, m.drop(v.i))
		}
	}
	errs = append(errs, f.Sync(), f.Close())
	return errors.Join(errs...)
}

// punch gives back the blocks of a chunk whose record is gone, and what it
// owned.
func (s *store) punch(i uint32, r *record) error {
	if r.flags&inExtra != 0 {
		if s.extra == nil {
			return nil
		}
		return s.extra.Punch(int64(i)*extraStride, int64(r.size))
	}
	first := r.offset / ownerBlock
	blocks := (r.offset+int64(r.size)+ownerBlock-1)/ownerBlock - first
	err := s.data.Punch(first*ownerBlock, blocks*ownerBlock)
	if err == nil {
		_, err = s.idx.WriteAt(make([]byte, 4*blocks), indexOwners+4*first)
	}
	return err
}

// eachRecord calls f for the records of all chunks that are there.
func (s *store) eachRecord(f func(i uint32, r record)) error {
	size, err := s.idx.Size()
	if err != nil {
		return err
	}
	end := min(size, indexRecords+maxChunks*recordSize)
	b := make([]byte, 256<<10)
	for at := int64(indexRecords); at < end; at += int64(len(b)) {
		data, err := s.idx.NextData(at)
		if err != nil {
			return err
		}
		// A record does not cross a border of the file system's blocks.
		if at = max(at, data/recordSize*recordSize); at >= end {
			return nil
		}
		n, err := s.idx.ReadAt(b[:min(int64(len(b)), end-at)], at)
		if err != nil && err != io.EOF {
			return err
		}
		for k := 0; k+recordSize <= n; k += recordSize {
			if r := parseRecord(b[k:], s.data.Identity()); r.state != absent {
				f(uint32((at-indexRecords+int64(k))/recordSize), r)
			}
		}
	}
	return nil
}

// removeBlob removes the files of a blob that nobody uses. The index goes
// last: it is what the others are found by.
func (c *Cache) removeBlob(name string) error {
	var errs []error
	for _, end := range []string{endChunkMap, endData, endExtra, endIndex} {
		if err := c.dir.Remove(name + end); err != nil && !missing(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, c.dir.Sync())...)
}
