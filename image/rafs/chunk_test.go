package rafs_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// fileChunks returns the chunk of each file of the small image with the chunk
// table that change makes of the two records.
func fileChunks(t *testing.T, change func(records []byte) []byte) (chunks []storage.Chunk) {
	t.Helper()
	b := imagetest.File(t, "testdata", "rafs-v6-2.2.boot")
	x, _ := rafs.ParseExtSuper(b[rafs.ExtSuperOffset:])
	table := change(bytes.Clone(b[x.ChunkTableOffset:][:x.ChunkTableSize]))
	b = append(b[:x.ChunkTableOffset], table...)
	x.ChunkTableSize = uint64(len(table))
	copy(b[rafs.ExtSuperOffset:], x.Append(nil))
	tree, err := openBytes(t, b)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, name := range [...]string{"lib.rs", "sync_io.rs"} {
		nid, err := image.Find(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		ext, err := tree.Extents(nil, nid, 0, 1<<20)
		if err != nil || len(ext) != 1 {
			t.Fatalf("%s: got %v, %v; want one extent", name, ext, err)
		}
		c := ext[0].Chunk
		c.Blob = nil
		chunks = append(chunks, c)
	}
	return chunks
}

func TestChunkTableInAnyOrder(t *testing.T) {
	const size = rafs.ChunkInfoSize
	want := fileChunks(t, func(r []byte) []byte { return r })
	for name, change := range map[string]func([]byte) []byte{
		"swapped": func(r []byte) []byte { return append(bytes.Clone(r[size:]), r[:size]...) },
		"others before": func(r []byte) []byte {
			var all []byte
			for i := range uint32(500) { // chunks that no file has
				c, _ := rafs.ParseChunkInfo(r)
				c.Index = 1000 + i
				all = c.Append(all)
			}
			return append(all, r...)
		},
		"twice": func(r []byte) []byte { return append(append(make([]byte, 0, 4*size), r...), r...) },
	} {
		t.Run(name, func(t *testing.T) {
			got := fileChunks(t, change)
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("file %d: got %+v, want %+v", i, got[i], want[i])
				}
			}
		})
	}
}

func TestNameOfTheBlobThatHoldsItsBootstrap(t *testing.T) {
	id := "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	for name, want := range map[string]string{
		filepath.Join("dir", id+".image.boot"): id,
		id:                                     id,
		"image.boot":                           "",
		id[:63] + ".boot":                      "",
		id[:63] + "x":                          "",
	} {
		if got := rafs.IDFromName(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
