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

// members stores files as the stargz tools do: each chunk begins a member,
// which pack makes, and has the next header at its end. Files that have
// "share" are in one member with the one before.
func members(files []LayerFile, pack func(parts ...[]byte) []byte) (blob []byte, toc []TOCEntry) {
	blob = pack(make([]byte, 512)) // the header of the first file
	member := []byte(nil)
	start := 0
	flush := func() {
		if member != nil {
			blob = append(blob, pack(member, make([]byte, 512))...) // with the next header at its end
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
	return blob, toc
}

// Stargz returns an eStargz layer and its annotations. Files that have
// "share" are in one gzip member with the one before.
func Stargz(t testing.TB, files []LayerFile) (blob []byte, annotations map[string]string) {
	t.Helper()
	blob, toc := members(files, func(parts ...[]byte) []byte { return gz(t, parts...) })
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
// annotations: the entry of a file says where the last of its frames ends, its
// chunks do not, chunks of zeros have frames as well, and a file of one chunk
// has no more than the digest of the file.
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
			e["offset"] = len(blob)
			blob = append(blob, Zstd(t, c)...)
			switch {
			case len(c) == len(f.Data):
				e["digest"] = e["chunkDigest"]
				delete(e, "chunkDigest")
			case bytes.Count(c, []byte{0}) == len(c):
				e["chunkType"] = "zeros"
			}
		})
		if len(f.Data) > 0 {
			f.TOCEntry["endOffset"] = len(blob)
		}
		blob = append(blob, Zstd(t, make([]byte, 512))...)
	}
	blob = skippable(blob, Zstd(t, []byte("tar-split")))
	blob, _, position, checksum := chunkedTOC(t, blob, toc)
	return blob, map[string]string{
		"io.github.containers.zstd-chunked.manifest-position": position,
		"io.github.containers.zstd-chunked.manifest-checksum": checksum,
	}
}

// ChunkedStargz returns a zstd:chunked layer, as the stargz tools write it, and
// its annotations: nothing says where a frame ends, and it has the next header
// at its end. Files that have "share" are in one frame with the one before.
func ChunkedStargz(t testing.TB, files []LayerFile) (blob []byte, annotations map[string]string) {
	t.Helper()
	blob, toc := members(files, func(parts ...[]byte) []byte { return Zstd(t, bytes.Join(parts, nil)) })
	blob, plain, position, checksum := chunkedTOC(t, blob, toc)
	return blob, map[string]string{
		"containerd.io/snapshot/stargz/toc.digest":     plain,
		"io.containers.zstd-chunked.manifest-position": position,
		"io.containers.zstd-chunked.manifest-checksum": checksum,
	}
}

// skippable puts a frame of zstd behind blob that decoders skip.
func skippable(blob, contents []byte) []byte {
	blob = append(blob, 0x50, 0x2a, 0x4d, 0x18)
	return append(binary.LittleEndian.AppendUint32(blob, uint32(len(contents))), contents...)
}

// chunkedTOC puts the table of contents and the footer behind blob.
func chunkedTOC(t testing.TB, blob []byte, toc []TOCEntry) (whole []byte, plain, position, checksum string) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
	if err != nil {
		t.Fatal(err)
	}
	stored := Zstd(t, b)
	blob = skippable(blob, stored)
	place := len(blob) - len(stored)
	var footer []byte
	for _, n := range [...]int{place, len(stored), len(b), 1} {
		footer = binary.LittleEndian.AppendUint64(footer, uint64(n))
	}
	blob = skippable(blob, append(footer, "GnUlInUx"...))
	return blob, Digest(b), fmt.Sprintf("%d:%d:%d:1", place, len(stored), len(b)), Digest(stored)
}
