package estargz_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/image/estargz"
)

// entry is an entry of a table of contents, for tests.
type entry map[string]any

// file is what a test layer has: the entry, and data for a regular file.
type file struct {
	entry
	data []byte
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

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

func gz(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	for _, p := range parts {
		if _, err := z.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// chunkSize is how test layers cut files.
const chunkSize = 10000

// add puts an entry for each chunk of f into the table; place stores a chunk
// and says where.
func chunks(f file, toc []entry, place func(e entry, chunk []byte)) []entry {
	f.entry["size"] = len(f.data)
	for off := 0; off == 0 || off < len(f.data); off += chunkSize {
		e := entry{"name": f.entry["name"], "type": "chunk"}
		if off == 0 {
			e = f.entry
		}
		if len(f.data) > 0 {
			c := f.data[off:min(off+chunkSize, len(f.data))]
			e["chunkOffset"], e["chunkDigest"] = off, digest(c)
			if off+len(c) < len(f.data) {
				e["chunkSize"] = len(c) // the last one's is left out, as real builders do
			}
			place(e, c)
		}
		toc = append(toc, e)
	}
	return toc
}

// stargz returns an eStargz layer. Files that share, by "share", are in one
// gzip member with the one before.
func stargz(t testing.TB, m memory, files []file) estargz.Layer {
	t.Helper()
	blob := gz(t, make([]byte, 512)) // the header of the first file
	var toc []entry
	member := []byte(nil)
	start := 0
	flush := func() {
		if member != nil {
			blob = append(blob, gz(t, member, make([]byte, 512))...) // with the next header at its end
			member = nil
		}
	}
	for _, f := range files {
		if f.entry["type"] != "reg" {
			toc = append(toc, f.entry)
			continue
		}
		toc = chunks(f, toc, func(e entry, c []byte) {
			if e["share"] == nil || member == nil {
				flush()
				start = len(blob)
				member = []byte{}
			} else {
				member = append(member, make([]byte, 512)...)
				e["innerOffset"] = len(member)
			}
			e["offset"] = start
			member = append(member, c...)
		})
	}
	flush()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
	if err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	w := tar.NewWriter(&index)
	if err := w.WriteHeader(&tar.Header{Name: "stargz.index.json", Typeflag: tar.TypeReg, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	place := len(blob)
	blob = append(blob, gz(t, index.Bytes())...)
	blob = append(blob, footer(place)...)
	return store(m, blob, map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest(b)})
}

// footer is the empty gzip member that ends an eStargz layer.
func footer(toc int) []byte {
	b := []byte{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, 'S', 'G', 22, 0}
	b = fmt.Appendf(b, "%016xSTARGZ", toc)
	return append(b, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
}

// chunked returns a zstd:chunked layer, as podman writes it.
func chunked(t testing.TB, m memory, files []file) estargz.Layer {
	t.Helper()
	blob := zst(t, make([]byte, 512))
	var toc []entry
	for _, f := range files {
		if f.entry["type"] != "reg" {
			toc = append(toc, f.entry)
			continue
		}
		toc = chunks(f, toc, func(e entry, c []byte) {
			if bytes.Count(c, []byte{0}) == len(c) {
				e["chunkType"] = "zeros"
				return
			}
			e["offset"] = len(blob)
			blob = append(blob, zst(t, c)...)
			e["endOffset"] = len(blob)
			blob = append(blob, zst(t, make([]byte, 512))...)
		})
	}
	b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
	if err != nil {
		t.Fatal(err)
	}
	stored := zst(t, b)
	blob = append(blob, 0x50, 0x2a, 0x4d, 0x18)
	blob = binary.LittleEndian.AppendUint32(blob, uint32(len(stored)))
	place := len(blob)
	blob = append(blob, stored...)
	return store(m, blob, map[string]string{
		"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", place, len(stored), len(b)),
		"io.github.containers.zstd-chunked.manifest-checksum": digest(stored),
	})
}

func store(m memory, blob []byte, annotations map[string]string) estargz.Layer {
	id := digest(blob)[len("sha256:"):]
	m[id] = blob
	return estargz.Layer{ID: id, Size: int64(len(blob)), Annotations: annotations}
}
