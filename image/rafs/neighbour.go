package rafs

import (
	"runtime/debug"

	"github.com/sluicefs/sluice/storage"
)

// setNeighbours lets readers in sequence ask for the chunks of each blob.
func (t *V6) setNeighbours() {
	if t.tarfs() {
		return
	}
	for i, b := range t.blobs {
		b.Neighbour = func(index uint32) (c storage.Chunk, ok bool) {
			ok = index < b.ChunkCount && t.neighbour(&c, i, index) == nil
			return c, ok
		}
	}
}

func (t *V6) neighbour(c *storage.Chunk, blob int, index uint32) (err error) {
	defer t.Guard(&err, debug.SetPanicOnFault(true))
	return t.chunk(c, blob, index)
}
