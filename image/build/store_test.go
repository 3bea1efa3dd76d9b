package build

import (
	"encoding/binary"
	"testing"
)

// Who makes a parent image chooses the digests that it says its chunks have: they
// must not all come to one place, where each is compared with all before it.
func TestDigestIndexHostile(t *testing.T) {
	x := digestIndex{slots: make([]uint32, 1<<12)}
	places := map[*uint32]bool{}
	for i := range uint64(256) {
		var digest [32]byte
		binary.LittleEndian.PutUint64(digest[:], i)
		binary.LittleEndian.PutUint64(digest[8:], i)
		places[x.slot(nil, &digest)] = true
	}
	if len(places) < 128 {
		t.Errorf("256 digests share %d places", len(places))
	}
}
