package estargz_test

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/image/imagetest"
)

// memory is a backend of blobs in memory.
type memory map[string][]byte

func (m memory) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	b, ok := m[blob]
	if !ok {
		return fs.ErrNotExist
	}
	if off < 0 || off > int64(len(b)) || copy(p, b[off:]) < len(p) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (m memory) Size(_ context.Context, blob string) (int64, error) {
	b, ok := m[blob]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(b)), nil
}

func stargz(t testing.TB, m memory, files []imagetest.LayerFile) estargz.Layer {
	t.Helper()
	blob, annotations := imagetest.Stargz(t, files)
	return store(m, blob, annotations)
}

func chunked(t testing.TB, m memory, files []imagetest.LayerFile) estargz.Layer {
	t.Helper()
	blob, annotations := imagetest.Chunked(t, files)
	return store(m, blob, annotations)
}

func chunkedStargz(t testing.TB, m memory, files []imagetest.LayerFile) estargz.Layer {
	t.Helper()
	blob, annotations := imagetest.ChunkedStargz(t, files)
	return store(m, blob, annotations)
}

func store(m memory, blob []byte, annotations map[string]string) estargz.Layer {
	id := strings.TrimPrefix(imagetest.Digest(blob), "sha256:")
	m[id] = blob
	return estargz.Layer{ID: id, Size: int64(len(blob)), Annotations: annotations}
}
