package build

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"unsafe"

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

// small returns a tar of that many files, no two alike, in directories of a
// thousand.
func small(files int) Layer {
	return Layer{"stream", func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			t := tar.NewWriter(w)
			for i := range files {
				name := fmt.Sprintf("d%03d/file%07d", i/1000, i)
				if t.WriteHeader(&tar.Header{Name: name, Size: 64 * int64(len(name)), Mode: 0o644}) != nil {
					return
				}
				if _, err := io.WriteString(t, strings.Repeat(name, 64)); err != nil {
					return
				}
			}
			w.CloseWithError(t.Close())
		}()
		return r, nil
	}}
}

// What a build keeps of a small file, name, inode and chunk together, is a
// few hundred bytes: a million of them fit where the buffers do.
func TestMemoryOfSmallFiles(t *testing.T) {
	const files, most, buffers = 40_000, 300, 3 << 20 // bytes; about 230 are used
	if got := unsafe.Sizeof(inode{}); got > 80 {
		t.Errorf("an inode takes %d bytes", got)
	}
	if got := unsafe.Sizeof(chunk{}); got > 80 {
		t.Errorf("a chunk takes %d bytes", got)
	}
	for _, version := range []int{5, 6} {
		before, end, done := live(), int64(0), 0
		opt := Options{Version: version, Parallel: 1, Memory: 1} // the fewest buffers
		opt.Progress = func(int64) {
			if done++; done == files {
				end = live()
			}
		}
		_, res, _ := create(t, Tars(small(files)), opt)
		if res.Files != files {
			t.Errorf("v%d: files: got %d, want %d", version, res.Files, files)
		}
		got := float64(end-before-buffers) / files
		if got > most {
			t.Errorf("v%d: got %.0f bytes of memory for a file, want at most %d", version, got, most)
		}
		t.Logf("v%d: %.0f bytes of memory for a file", version, got)
	}
}

func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a build keeps is bounded by the setting, not by the source.
func TestMemoryBounded(t *testing.T) {
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
