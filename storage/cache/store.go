package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// maxChunkSize is the largest uncompressed chunk, in bytes.
const maxChunkSize = codec.MaxSize

// extraStride is the room that a chunk has in the extra file, where chunks
// lie whose own place in the data file is not a whole number of blocks or is
// another chunk's: chunk i is at i*extraStride.
const (
	extraStride = maxChunkSize
	maxExtra    = 1 << 18 // chunks with a place in the extra file: 4 TiB
)

// maxDataSize is the highest offset in a data file.
const maxDataSize = 1 << 44

// store is the files of one blob in the cache's directory:
//
//	NAME.blob.data        the chunks, each at its uncompressed offset (as nydus has it)
//	NAME.blob.data.index  which chunks are there, with their digests
//	NAME.blob.data.extra  chunks that have no place of their own in the first
//
// Order of writing, which a loss of power cannot break: owners, data, record
// "written"; later sync of data, then record "synced". A record "written" is
// trusted as long as the kernel that has its pages runs, a record "synced"
// always.
//
// A store is in use, by a shared lock on the index, from its opening until
// it is closed; only what nobody uses is evicted.
type store struct {
	c    *Cache
	name string // file name without the endings
	data file
	idx  file
	bits *chunkMap // nydus's, or nil

	// suspect is set when the data file has become shorter: from then on each
	// chunk is verified at its first use.
	suspect   atomic.Bool
	slots     slots
	high      atomic.Int64 // end of what this process has written to data
	withdrawn bool         // used by evict alone
	reopen    atomic.Int64 // without files: when to try again, Unix nanoseconds

	mu      sync.Mutex // leaf; guards what follows
	extra   file
	dirty   []uint32 // chunks "written" and not "synced"
	gen     uint64
	flights map[uint64]*flight // by seal
	foreign map[uint64]foreign // by seal: chunks whose bytes another blob has
}

// foreign is where the bytes of a chunk lie in another blob's store.
type foreign struct {
	s  *store
	ch storage.Chunk // the other blob's, with its index and offset
}

// openStore opens or makes the files called name. It returns fs.ErrNotExist
// when they are not there and create is not set.
func (c *Cache) openStore(name string, create bool) (*store, error) {
	s := &store{c: c, name: name, flights: make(map[uint64]*flight)}
	if err := s.open(create); err != nil {
		s.closeFiles()
		return nil, err
	}
	return s, nil
}

func (s *store) open(create bool) (err error) {
	if err := s.lockIndex(create); err != nil {
		return err
	}
	if s.data, err = s.c.dir.Open(s.name+endData, create); err != nil {
		return err
	}
	return s.readHeader(create)
}

// lockIndex opens the index and takes the lock that says it is in use. An
// index that was removed in between is let go for the one that is there now.
func (s *store) lockIndex(create bool) error {
	for range 8 {
		f, err := s.c.dir.Open(s.name+endIndex, create)
		if err != nil {
			return err
		}
		ok, err := f.TryLock(false)
		if err == nil && !ok {
			err = errBusy
		}
		if err != nil {
			f.Close()
			return err
		}
		again, err := s.c.dir.Open(s.name+endIndex, false)
		if err == nil {
			same := again.Identity() == f.Identity()
			again.Close()
			if same {
				s.idx = f
				return nil
			}
		}
		f.Close()
	}
	return errBusy
}

// errBusy says that another process is just evicting the blob.
var errBusy = errors.New("blob is being evicted")

// readHeader compares the index with the data file. One that is new, or no
// index at all, starts empty.
func (s *store) readHeader(create bool) error {
	b := make([]byte, headerSize)
	_, err := s.idx.ReadAt(b, 0)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	h, ok := parseHeader(b)
	s.gen = h.gen
	if !ok && create {
		// Nothing of an index without a sound head is trusted.
		if err := s.idx.Truncate(0); err != nil {
			return err
		}
		if _, err := s.idx.WriteAt(h.append(nil), 0); err != nil {
			return err
		}
		return s.c.dir.Sync()
	}
	if !ok {
		return fmt.Errorf("index of %s: no valid header", s.name)
	}
	return nil
}

func (s *store) closeFiles() error {
	var errs []error
	for _, f := range []file{s.data, s.extra, s.idx} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if s.bits != nil {
		errs = append(errs, s.bits.close())
	}
	return errors.Join(errs...)
}

func (s *store) record(i uint32) record {
	var b [recordSize]byte
	if _, err := s.idx.ReadAt(b[:], indexRecords+int64(i)*recordSize); err != nil {
		return record{}
	}
	return parseRecord(b[:], s.data.Identity())
}

func (s *store) writeRecord(i uint32, r *record) error {
	_, err := s.idx.WriteAt(r.append(make([]byte, 0, recordSize), s.data.Identity()), indexRecords+int64(i)*recordSize)
	return err
}

// withdraw makes record i absent, for good before anything else is written.
func (s *store) withdraw(i uint32) error {
	if sl := s.slots.find(i); sl != nil {
		sl.seal.Store(0)
	}
	if _, err := s.idx.WriteAt(make([]byte, recordSize), indexRecords+int64(i)*recordSize); err != nil {
		return err
	}
	return s.idx.Sync()
}

// keepable reports whether ch may be kept on disk: a name that is no digest
// says nothing of the contents, and then the chunk must have a digest.
func keepable(ch *storage.Chunk) bool {
	if ch.Index >= maxChunks || ch.UncompressedSize == 0 || ch.UncompressedSize > maxChunkSize ||
		ch.UncompressedOffset < 0 || ch.UncompressedOffset > maxDataSize-maxChunkSize {
		return false
	}
	return ch.Flags&(storage.HasDigest|storage.HasCRC32C) != 0 || isHash(ch.Blob.ID)
}

func isHash(id string) bool {
	if len(id) != 64 {
		return false
	}
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// place returns where in which file a chunk's bytes are or go.
func (s *store) place(i uint32, off int64, extra bool) (file, int64, error) {
	if !extra {
		return s.data, off, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra == nil {
		f, err := s.c.dir.Open(s.name+endExtra, true)
		if err != nil {
			return nil, 0, err
		}
		s.extra = f
	}
	return s.extra, int64(i) * extraStride, nil
}

// read fills p with the chunk's bytes from off on, as they are on disk.
func (s *store) read(p []byte, i uint32, chunkOffset int64, off int64, extra bool) error {
	f, at, err := s.place(i, chunkOffset, extra)
	if err != nil {
		return err
	}
	n, err := f.ReadAt(p, at+off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// find looks on disk whether the verified bytes of ch are there, and if so
// notes it in the slot. buf is room to verify in, or nil to make some.
func (s *store) find(ch *storage.Chunk, seal uint64) bool {
	r := s.record(ch.Index)
	if r.state == absent {
		return s.adopt(ch, seal)
	}
	if !r.matches(ch) {
		return false
	}
	extra := r.flags&inExtra != 0
	sure := !s.suspect.Load() && (r.state == synced || r.boot == s.c.boot) && s.c.o.Verify == VerifyFetched
	if !sure || ch.Flags&storage.HasDigest == 0 && ch.Flags&storage.HasCRC32C != 0 {
		if !s.sound(ch, &r) {
			s.c.log.Warn("cached chunk is damaged, fetching it again", "blob", ch.Blob.ID, "chunk", ch.Index, "digest", r.digest.String())
			s.c.n.damaged.Add(1)
			s.withdraw(ch.Index)
			return false
		}
		if r.state == written && r.boot != s.c.boot {
			r.boot = s.c.boot
			s.writeRecord(ch.Index, &r)
			s.noteDirty(ch.Index)
		}
	}
	sl := s.slots.at(ch.Index)
	if extra {
		sl.flags.Or(slotExtra)
	} else {
		sl.flags.And(^uint32(slotExtra))
	}
	sl.access.Store(max(r.access, sl.access.Load()))
	sl.seal.Store(seal)
	return true
}

// sound reads the chunk's bytes and compares them with the record's digest
// and with what the image says.
func (s *store) sound(ch *storage.Chunk, r *record) bool {
	b := s.c.pool.get(int(r.size))
	defer s.c.pool.put(b)
	if err := s.read(b, ch.Index, r.offset, 0, r.flags&inExtra != 0); err != nil {
		return false
	}
	return codec.Sum(b, r.digest.Algorithm) == r.digest && codec.Verify(b, ch) == nil
}

// put keeps the verified bytes p of ch. The caller has the chunk's lock.
func (s *store) put(ch *storage.Chunk, p []byte, seal uint64) error {
	old := s.record(ch.Index)
	if old.state != absent {
		if !old.matches(ch) {
			return errClaimed
		}
		if err := s.withdraw(ch.Index); err != nil {
			return err
		}
	}
	extra, err := s.claim(ch)
	if err != nil {
		return err
	}
	f, at, err := s.place(ch.Index, ch.UncompressedOffset, extra)
	if err != nil {
		return err
	}
	if !extra {
		s.watchSize(at + int64(len(p)))
	}
	if _, err := f.WriteAt(p, at); err != nil {
		f.Punch(at, int64(len(p)))
		return err
	}
	r := record{state: written, boot: s.c.boot, offset: ch.UncompressedOffset, size: ch.UncompressedSize, digest: ch.Digest, access: s.c.minutes()}
	if extra {
		r.flags |= inExtra
	}
	if ch.Flags&storage.HasDigest == 0 {
		r.flags |= ownDigest
		r.digest = codec.Sum(p, storage.BLAKE3)
	}
	if err := s.writeRecord(ch.Index, &r); err != nil {
		return err
	}
	sl := s.slots.at(ch.Index)
	sl.access.Store(r.access)
	if extra {
		sl.flags.Or(slotExtra)
	} else {
		sl.flags.And(^uint32(slotExtra))
	}
	sl.seal.Store(seal)
	s.noteDirty(ch.Index)
	s.c.added(int64(len(p)))
	return nil
}

// watchSize notes that data is about to reach to end, and what to think of a
// file that has become shorter than this process left it.
func (s *store) watchSize(end int64) {
	if size, err := s.data.Size(); err == nil && size < s.high.Load() {
		s.distrust()
	}
	for {
		h := s.high.Load()
		if end <= h || s.high.CompareAndSwap(h, end) {
			return
		}
	}
}

// distrust makes every chunk be verified at its next use.
func (s *store) distrust() {
	s.suspect.Store(true)
	s.slots.each(func(_ uint32, sl *slot) { sl.seal.Store(0) })
}

// errClaimed says that an image before this one said something else of the
// same chunk of the same blob; what it said has been verified and stays.
var errClaimed = errors.New("chunk is there with other contents")

// claim makes the chunk the owner of its blocks in the data file, or reports
// that its place is in the extra file.
func (s *store) claim(ch *storage.Chunk) (extra bool, err error) {
	first, end := ch.UncompressedOffset/ownerBlock, (ch.UncompressedOffset+int64(ch.UncompressedSize)+ownerBlock-1)/ownerBlock
	own := ch.UncompressedOffset%ownerBlock == 0
	b := make([]byte, 4*(end-first))
	if own {
		n, err := s.idx.ReadAt(b, indexOwners+4*first)
		if err != nil && err != io.EOF {
			return false, err
		}
		clear(b[n:])
		for i := 0; i < len(b); i += 4 {
			if o := binary.LittleEndian.Uint32(b[i:]); o != 0 && o != ch.Index+1 {
				own = false
				break
			}
		}
	}
	if !own {
		if ch.Index >= maxExtra {
			return false, errClaimed
		}
		return true, nil
	}
	for i := 0; i < len(b); i += 4 {
		binary.LittleEndian.PutUint32(b[i:], ch.Index+1)
	}
	_, err = s.idx.WriteAt(b, indexOwners+4*first)
	return false, err
}

func (s *store) noteDirty(i uint32) {
	s.mu.Lock()
	s.dirty = append(s.dirty, i)
	s.mu.Unlock()
}

// sync brings what was written to disk and says so in the records.
func (s *store) sync() error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = nil
	extra := s.extra
	s.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	err := s.data.Sync()
	if extra != nil && err == nil {
		err = extra.Sync()
	}
	if err == nil {
		err = s.idx.Sync() // the owners
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = append(s.dirty, dirty...)
		s.mu.Unlock()
		return err
	}
	for _, i := range dirty {
		r := s.record(i)
		if r.state != written || r.boot != s.c.boot {
			continue
		}
		r.state, r.boot = synced, 0
		if sl := s.slots.find(i); sl != nil {
			r.access = sl.access.Load()
		}
		if err := s.writeRecord(i, &r); err != nil {
			return err
		}
		if s.bits != nil && r.flags&inExtra == 0 {
			if err := s.bits.set(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh forgets what another process has withdrawn.
func (s *store) refresh() {
	b := make([]byte, headerSize)
	if _, err := s.idx.ReadAt(b, 0); err != nil {
		return
	}
	h, ok := parseHeader(b)
	s.mu.Lock()
	changed := ok && h.gen != s.gen
	if changed {
		s.gen = h.gen
	}
	s.mu.Unlock()
	if changed {
		s.slots.each(func(_ uint32, sl *slot) { sl.seal.Store(0) })
	}
}

// raise tells other users of the blob to look at the records again.
func (s *store) raise() error {
	h := header{gen: s.gen + 1}
	_, err := s.idx.WriteAt(h.append(nil), 0)
	return err
}

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
