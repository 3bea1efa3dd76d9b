package build

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// unlike returns a tar with files of that size, no two blocks of which are
// alike, as a stream.
func unlike(files int, size int64) Layer {
	return Layer{"stream", func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			t := tar.NewWriter(w)
			block := make([]byte, 64<<10)
			count := uint64(0)
			for i := range files {
				if t.WriteHeader(&tar.Header{Name: string(rune('a' + i)), Size: size, Mode: 0o644}) != nil {
					return
				}
				for left := size; left > 0; left -= int64(len(block)) {
					for off := 0; off < len(block); off += 1024 {
						count++
						binary.LittleEndian.PutUint64(block[off:], count*0x9e3779b97f4a7c15)
					}
					if _, err := t.Write(block); err != nil {
						return
					}
				}
			}
			w.CloseWithError(t.Close())
		}()
		return r, nil
	}}
}

// What a build keeps is bounded by the setting, not by the source.
func TestMemoryBounded(t *testing.T) {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const size, memory, rest = 32 << 20, 16 << 20, 80 << 20 // rest: decoders, encoders, tables
	files := 8
	if testing.Short() {
		files = 4
	}
	for name, opt := range map[string]Options{
		"zstd":    {Compressor: storage.Zstd},
		"content": {Version: 5, Chunking: ContentChunks, Compressor: storage.LZ4Block},
		"batches": {BatchSize: 1 << 20, ChunkSize: 64 << 10, Compressor: storage.LZ4Block},
	} {
		if testing.Short() && name != "content" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			before, most, done, next := live(), int64(0), int64(0), int64(0)
			opt.Memory, opt.Parallel = memory, 4
			opt.Progress = func(n int64) {
				if done += n; done >= next {
					next += size
					most = max(most, live()-before)
				}
			}
			_, res, _ := create(t, Tars(unlike(files, size)), opt)
			if want := int64(files) * size; res.DataSize != want || done != want {
				t.Errorf("data: got %d bytes, progress %d, want %d", res.DataSize, done, want)
			}
			if most > memory+rest {
				t.Errorf("live heap: got %d bytes more than before, want at most %d", most, memory+rest)
			}
			t.Logf("live heap: %d bytes more than before, of %d that passed", most, done)
		})
	}
}
