package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TOCEntry is an entry of a layer's table of contents, with the names of its
// JSON.
type TOCEntry map[string]any

// LayerFile is what a layer made by [Stargz] or [Chunked] has: the entry, and
// data for a regular file.
type LayerFile struct {
	TOCEntry
	Data []byte
}

// Digest returns the SHA-256 of b in the form of OCI.
func Digest(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
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

// Zstd returns b as one zstd frame.
func Zstd(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// ChunkSize is how these layers cut files, in bytes.
const ChunkSize = 10000

// add puts an entry for each chunk of f into the table; place stores a chunk
// and says where.
func chunks(f LayerFile, toc []TOCEntry, place func(e TOCEntry, chunk []byte)) []TOCEntry {
	f.TOCEntry["size"] = len(f.Data)
	for off := 0; off == 0 || off < len(f.Data); off += ChunkSize {
		e := TOCEntry{"name": f.TOCEntry["name"], "type": "chunk"}
		if off == 0 {
			e = f.TOCEntry
		}
		if len(f.Data) > 0 {
			c := f.Data[off:min(off+ChunkSize, len(f.Data))]
			e["chunkOffset"], e["chunkDigest"] = off, Digest(c)
			if off+len(c) < len(f.Data) {
				e["chunkSize"] = len(c) // the last one's is left out, as real builders do
			}
			place(e, c)
		}
		toc = append(toc, e)
	}
	return toc
}

// Stargz returns an eStargz layer and its annotations. Files that have
// "share" are in one gzip member with the one before.
func Stargz(t testing.TB, files []LayerFile) (blob []byte, annotations map[string]string) {
	t.Helper()
	blob = gz(t, make([]byte, 512)) // the header of the first file
	var toc []TOCEntry
	member := []byte(nil)
	start := 0
	flush := func() {
		if member != nil {
			blob = append(blob, gz(t, member, make([]byte, 512))...) // with the next header at its end
			member = nil
		}
	}
	for _, f := range files {
		if f.TOCEntry["type"] != "reg" {
			toc = append(toc, f.TOCEntry)
			continue
		}
		toc = chunks(f, toc, func(e TOCEntry, c []byte) {
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
	return blob, map[string]string{"containerd.io/snapshot/stargz/toc.digest": Digest(b)}
}

// footer is the empty gzip member that ends an eStargz layer.
func footer(toc int) []byte {
	b := []byte{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, 'S', 'G', 22, 0}
	b = fmt.Appendf(b, "%016xSTARGZ", toc)
	return append(b, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
}

// Chunked returns a zstd:chunked layer, as podman writes it, and its
// annotations.
func Chunked(t testing.TB, files []LayerFile) (blob []byte, annotations map[string]string) {
	t.Helper()
	blob = Zstd(t, make([]byte, 512))
	var toc []TOCEntry
	for _, f := range files {
		if f.TOCEntry["type"] != "reg" {
			toc = append(toc, f.TOCEntry)
			continue
		}
		toc = chunks(f, toc, func(e TOCEntry, c []byte) {
			if bytes.Count(c, []byte{0}) == len(c) {
				e["chunkType"] = "zeros"
				return
			}
			e["offset"] = len(blob)
			blob = append(blob, Zstd(t, c)...)
			e["endOffset"] = len(blob)
			blob = append(blob, Zstd(t, make([]byte, 512))...)
		})
	}
	b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
	if err != nil {
		t.Fatal(err)
	}
	stored := Zstd(t, b)
	blob = append(blob, 0x50, 0x2a, 0x4d, 0x18)
	blob = binary.LittleEndian.AppendUint32(blob, uint32(len(stored)))
	place := len(blob)
	blob = append(blob, stored...)
	return blob, map[string]string{
		"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", place, len(stored), len(b)),
		"io.github.containers.zstd-chunked.manifest-checksum": Digest(stored),
	}
}
