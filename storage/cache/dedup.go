package cache

import (
	"encoding/binary"
	"hash/fnv"

	"github.com/sluicefs/sluice/storage"
)

// digests is the file "digests" of a cache directory: a hash table from
// digest to the blob and index under which a chunk with that digest was
// kept, so that one that is in several blobs is kept once. Its entries are
// hints: what they point to is compared with the record there, so a lost,
// torn or wrong entry costs no more than a fetch.
//
// The table has digestBuckets buckets of bucketSlots entries of 16 bytes:
// the first 8 bytes of the digest, a hash of the store's name, the index.
// A full bucket forgets the entry that the digest's own bytes choose.
type digests struct{ f file }

const (
	digestFile    = "digests"
	digestBuckets = 1 << 18
	bucketSlots   = 8
	bucketSize    = bucketSlots * 16
)

func bucketOf(d *storage.Digest) int64 {
	return int64(binary.LittleEndian.Uint64(d.Sum[8:])%digestBuckets) * bucketSize
}

func nameHash(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32() | 1
}

// add notes that a chunk with digest d is chunk i of the store with that
// hash.
func (t *digests) add(d *storage.Digest, hash, i uint32) {
	var b [bucketSize]byte
	at := bucketOf(d)
	t.f.ReadAt(b[:], at) // what cannot be read is empty
	le := binary.LittleEndian
	slot := int(d.Sum[16]) % bucketSlots
	for k := range bucketSlots {
		e := b[k*16:]
		if le.Uint32(e[8:]) == 0 || string(e[:8]) == string(d.Sum[:8]) {
			slot = k
			break
		}
	}
	var e [16]byte
	copy(e[:], d.Sum[:8])
	le.PutUint32(e[8:], hash)
	le.PutUint32(e[12:], i)
	t.f.WriteAt(e[:], at+int64(slot)*16)
}

// lookup returns where a chunk with digest d may be.
func (t *digests) lookup(d *storage.Digest) (hash, i uint32, ok bool) {
	var b [bucketSize]byte
	n, _ := t.f.ReadAt(b[:], bucketOf(d))
	le := binary.LittleEndian
	for k := 0; k+16 <= n; k += 16 {
		if string(b[k:k+8]) == string(d.Sum[:8]) && le.Uint32(b[k+8:]) != 0 {
			return le.Uint32(b[k+8:]), le.Uint32(b[k+12:]), true
		}
	}
	return 0, 0, false
}

// findForeign looks for the bytes of ch, by digest, in the other blobs of
// the cache.
func (s *store) findForeign(ch *storage.Chunk, seal uint64) (foreign, bool) {
	if ch.Flags&storage.HasDigest == 0 {
		return foreign{}, false
	}
	s.mu.Lock()
	fo, ok := s.foreign[seal]
	s.mu.Unlock()
	if ok {
		return fo, fo.s.slots.at(fo.ch.Index).seal.Load() == s.c.seals.seal(&fo.ch)
	}
	hash, i, ok := s.c.digests.lookup(&ch.Digest)
	if !ok || i >= maxChunks {
		return foreign{}, false
	}
	o := s.c.storeByHash(hash)
	if o == nil || o == s {
		return foreign{}, false
	}
	r := o.record(i)
	fo = foreign{s: o, ch: *ch}
	fo.ch.Index, fo.ch.UncompressedOffset = i, r.offset
	fo.ch.Flags = storage.HasDigest
	if !r.matches(&fo.ch) || !o.find(&fo.ch, s.c.seals.seal(&fo.ch)) {
		return foreign{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.foreign == nil {
		s.foreign = make(map[uint64]foreign)
	}
	s.foreign[seal] = fo
	return fo, true
}
