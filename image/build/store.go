package build

import (
	"hash/maphash"
	"sync"

	"github.com/sluicefs/sluice/image/rafs"
)

// chunk is one stored chunk, 80 bytes without a pointer: there can be
// millions.
type chunk struct {
	digest     [32]byte
	compOff    uint64
	uncompOff  uint64
	fileOff    uint64 // in the first file that has it
	compSize   uint32
	uncompSize uint32
	index      uint32 // in the blob
	flags      uint32 // rafs.ChunkCompressed and so on
	crc        uint32
	blob       uint32 // position in store.blobs
}

// blob is a blob of the image, with what the blob table will say of it.
type blob struct {
	info  rafs.BlobInfo
	id    string
	at    uint32 // position in store.blobs
	used  bool   // some inode has a chunk in it
	table int    // position in the blob table, once that is known
	ours  bool   // written by this build

	batches   []byte // contexts of batch chunks or of a gzip stream, as stored
	dataSize  uint64 // compressed bytes of the chunks, from 0 on
	mapped    uint32 // v6: block address in the flattened view
	prefetch  uint64 // v5: readahead size
	chunkList []uint32
}

// store is all chunks that an image may refer to. The writer adds, workers
// look up.
type store struct {
	mu       sync.RWMutex // held by the writer for changes of what follows, by others for reading it
	byDigest digestIndex
	chunks   chunkVec // by position in inode.chunks

	blobs  []*blob
	loaded map[place]uint32 // chunks of images that existed before
}

// chunkVec is a list of chunks that grows without being copied.
type chunkVec struct {
	segments [][]chunk // of segmentSize
	n        uint32
}

const segmentSize = 1 << 9

func (v *chunkVec) len() uint32        { return v.n }
func (v *chunkVec) at(i uint32) *chunk { return &v.segments[i/segmentSize][i%segmentSize] }

func (v *chunkVec) add(c *chunk) uint32 {
	if v.n%segmentSize == 0 {
		v.segments = append(v.segments, make([]chunk, 0, segmentSize))
	}
	last := &v.segments[len(v.segments)-1]
	*last = append(*last, *c)
	v.n++
	return v.n - 1
}

// digestIndex finds chunks by their digests: a hash table with open addressing
// of positions in a chunkVec, from 1.
type digestIndex struct {
	slots []uint32 // a power of two
	n     int
}

// digestSeed keeps those who choose digests, as the author of a parent image
// can, from choosing places in the index.
var digestSeed = maphash.MakeSeed()

// slot returns the place of the digest in the index, or the free one where it
// belongs.
func (x *digestIndex) slot(v *chunkVec, digest *[32]byte) *uint32 {
	hash := maphash.Bytes(digestSeed, digest[:])
	for at := hash & uint64(len(x.slots)-1); ; at = (at + 1) % uint64(len(x.slots)) {
		if p := &x.slots[at]; *p == 0 || v.at(*p-1).digest == *digest {
			return p
		}
	}
}

// find returns the position of the chunk with that digest.
func (x *digestIndex) find(v *chunkVec, digest *[32]byte) (uint32, bool) {
	if x.n == 0 {
		return 0, false
	}
	i := *x.slot(v, digest)
	return i - 1, i != 0
}

// add enters the chunk at position i, unless one with its digest is there.
func (x *digestIndex) add(v *chunkVec, i uint32) {
	if 4*(x.n+1) > 3*len(x.slots) {
		old := x.slots
		x.slots = make([]uint32, max(64, 2*len(old)))
		for _, i := range old {
			if i != 0 {
				*x.slot(v, &v.at(i-1).digest) = i
			}
		}
	}
	if p := x.slot(v, &v.at(i).digest); *p == 0 {
		*p = i + 1
		x.n++
	}
}

// place is where a chunk of a loaded image is.
type place struct {
	blob  uint32 // in store.blobs
	index uint32
}

func newStore() *store { return &store{loaded: map[place]uint32{}} }

// addBlob makes b one of the store's blobs.
func (s *store) addBlob(b *blob) {
	b.at = uint32(len(s.blobs))
	s.blobs = append(s.blobs, b)
}

// of returns the blob that has c.
func (s *store) of(c *chunk) *blob { return s.blobs[c.blob] }

// blob returns the blob with that id, nil if there is none.
func (s *store) blob(id string) *blob {
	for _, b := range s.blobs {
		if b.id == id {
			return b
		}
	}
	return nil
}

// has reports whether a chunk with that digest is stored.
func (s *store) has(digest *[32]byte) bool {
	_, ok := s.find(digest)
	return ok
}

// find returns the position of the chunk with that digest.
func (s *store) find(digest *[32]byte) (uint32, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byDigest.find(&s.chunks, digest)
}

// add stores c, which has a digest that is new if unique is set, and returns
// its position.
func (s *store) add(c *chunk, unique bool) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.chunks.add(c)
	b := s.of(c)
	b.chunkList = append(b.chunkList, i)
	if unique {
		s.byDigest.add(&s.chunks, i)
	}
	return i
}
