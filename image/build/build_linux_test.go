package build

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

func TestCreateFromDirectory(t *testing.T) {
	src := makeSource(t)
	want := osLines(t, src)
	for _, opt := range []Options{
		{},
		{Compressor: storage.Zstd},
		{Compressor: storage.LZ4Block, ChunkSize: 4096, Digester: storage.SHA256},
		{Compressor: storage.Zstd, ChunkSize: 64 << 10, TOC: true},
		{NullHoles: true, ChunkSize: 16 << 20},
		{BatchSize: 128 << 10, ChunkSize: 64 << 10, Compressor: storage.Zstd},
		{BatchSize: 16 << 10, ChunkSize: 4 << 10, Compressor: storage.None, TOC: true},
		{Version: 5, Compressor: storage.LZ4Block, ChunkSize: 32 << 10},
		{Version: 5, Digester: storage.SHA256, AlignedChunk: true},
		{Version: 5, Chunking: ContentChunks, ChunkSize: 16 << 10, Compressor: storage.LZ4Block},
	} {
		t.Run(fmt.Sprintf("v%d-%v-%d-%v", opt.Version, opt.Compressor, opt.ChunkSize, opt.Digester), func(t *testing.T) {
			tree, res, dir := create(t, Dir(src), opt)
			sameLines(t, "image", treeLines(t, tree, blobFiles(dir)), want)
			clean(t, filepath.Join(dir, "image.boot"), dir)
			for _, b := range res.Written {
				if got := hashFile(t, b.Path); got != b.ID {
					t.Errorf("SHA-256 of the blob: got %s, want its id %s", got, b.ID)
				}
			}
		})
	}
}

// The bytes of an image depend neither on how many workers made it nor on the
// memory that they had.
func TestCreateReproducible(t *testing.T) {
	src := makeSource(t)
	for name, opt := range map[string]Options{
		"fixed":   {Compressor: storage.Zstd, ChunkSize: 16 << 10, TOC: true},
		"batches": {Compressor: storage.Zstd, ChunkSize: 64 << 10, BatchSize: 128 << 10},
		"content": {Compressor: storage.LZ4Block, ChunkSize: 64 << 10, Version: 5, Chunking: ContentChunks},
	} {
		t.Run(name, func(t *testing.T) {
			var first string
			for _, parallel := range []int{1, 2, 7} {
				opt.Parallel, opt.Memory = parallel, 1<<20/int64(parallel)
				_, res, dir := create(t, Dir(src), opt)
				got := fmt.Sprint(res.Blobs, hashFile(t, filepath.Join(dir, "image.boot")), hashFile(t, filepath.Join(dir, res.Blobs[0])))
				if first == "" {
					first = got
				}
				if got != first {
					t.Errorf("with %d workers: got %s, want %s", parallel, got, first)
				}
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	src := os.Getenv("SLUICE_BENCH_SOURCE")
	if src == "" {
		src = makeSource(b)
	}
	for _, c := range []storage.Compressor{storage.None, storage.LZ4Block, storage.Zstd} {
		b.Run("compressor="+c.String(), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				res, err := Create(b.Context(), Dir(src), Output{Bootstrap: filepath.Join(dir, "boot"), BlobDir: dir}, Options{Compressor: c})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(res.DataSize)
			}
		})
	}
}
