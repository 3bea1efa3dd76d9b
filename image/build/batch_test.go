package build

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// Workers that look ahead do not know yet what the slots before theirs have
// stored. What is in a batch does not depend on that.
func TestBatchesOfRepeatedFiles(t *testing.T) {
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("f %d %s", i, text(uint64(i*i%800), 1000+i%7)))
	}
	layer := bytesLayer("layer", archive(t, lines...))
	var first string
	for _, parallel := range []int{1, 8, 3} {
		opt := Options{Parallel: parallel, BatchSize: 128 << 10, Compressor: storage.Zstd}
		_, res, dir := create(t, Tars(layer), opt)
		got := fmt.Sprint(res.Blobs, res.DedupChunks, hashFile(t, filepath.Join(dir, "image.boot")))
		if first == "" {
			first = got
			clean(t, filepath.Join(dir, "image.boot"), dir)
		}
		if got != first {
			t.Errorf("with %d workers: got %s, want %s", parallel, got, first)
		}
	}
}
