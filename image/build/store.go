package build

import (
	"sync"

	"github.com/sluicefs/sluice/image/rafs"
)

// chunk is one stored chunk.
type chunk struct {
	digest       [32]byte
	compOff      uint64
	uncompOff    uint64
	compSize     uint32
	uncompSize   uint32
	index        uint32 // in the blob
	flags        uint32 // rafs.ChunkCompressed and so on
	crc          uint32
	blob         *blob
	fileOff      uint64 // in the first file that has it
	used         bool   // plain EROFS: some file has it
	flat         uint64 // plain EROFS: place in the data behind the metadata
	batchContext uint32 // with rafs.ChunkBatch or in a gzip stream: position of the context,
	batchOff     uint32 // and of the chunk in its bytes
}

// blob is a blob of the image, with what the blob table will say of it.
type blob struct {
	info  rafs.BlobInfo
	id    string
	used  bool // some inode has a chunk in it
	table int  // position in the blob table, once that is known
	ours  bool // written by this build

	batches   []byte // contexts of batch chunks or of a gzip stream, as stored
	dataSize  uint64 // compressed bytes of the chunks, from 0 on
	mapped    uint32 // v6: block address in the flattened view
	prefetch  uint64 // v5: readahead size
	chunkList []uint32
}

// store is all chunks that an image may refer to. The writer adds, workers
// look up.
type store struct {
	mu       sync.RWMutex
	byDigest map[[32]byte]uint32
	chunks   chunkVec // owned by the writer; by position in inode.chunks
	blobs    []*blob
	loaded   map[place]uint32 // chunks of images that existed before
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

// place is where a chunk of a loaded image is.
type place struct {
	blob  *blob
	index uint32
}

func newStore() *store {
	return &store{byDigest: map[[32]byte]uint32{}, loaded: map[place]uint32{}}
}

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
	s.mu.RLock()
	_, ok := s.byDigest[*digest]
	s.mu.RUnlock()
	return ok
}

// find returns the position of the chunk with that digest.
func (s *store) find(digest *[32]byte) (uint32, bool) {
	s.mu.RLock()
	i, ok := s.byDigest[*digest]
	s.mu.RUnlock()
	return i, ok
}

// add stores c, which has a digest that is new if unique is set, and returns
// its position.
func (s *store) add(c *chunk, unique bool) uint32 {
	i := s.chunks.add(c)
	c.blob.chunkList = append(c.blob.chunkList, i)
	if unique {
		s.mu.Lock()
		s.byDigest[c.digest] = i
		s.mu.Unlock()
	}
	return i
}
