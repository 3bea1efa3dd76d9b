package estargz

import (
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// tocEntry is an entry of a table of contents, as both formats write it.
type tocEntry struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	Size        int64             `json:"size"`
	ModTime     string            `json:"modtime"`
	LinkName    string            `json:"linkName"`
	Mode        uint32            `json:"mode"`
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	DevMajor    uint32            `json:"devMajor"`
	DevMinor    uint32            `json:"devMinor"`
	Xattrs      map[string][]byte `json:"xattrs"`
	Digest      string            `json:"digest"`
	Offset      int64             `json:"offset"`
	EndOffset   int64             `json:"endOffset"`
	InnerOffset int64             `json:"innerOffset"`
	ChunkOffset int64             `json:"chunkOffset"`
	ChunkSize   int64             `json:"chunkSize"`
	ChunkDigest string            `json:"chunkDigest"`
	ChunkType   string            `json:"chunkType"`
}

type tocFile struct {
	Version int        `json:"version"`
	Entries []tocEntry `json:"entries"`
}

// maxEntries bounds the entries of one layer.
const maxEntries = 16 << 20

func parseTOC(b []byte) ([]tocEntry, error) {
	var f tocFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, bad("table of contents: %v", err)
	}
	if f.Version != 1 {
		return nil, bad("table of contents of version %d", f.Version)
	}
	if len(f.Entries) > maxEntries {
		return nil, bad("%d entries are too many", len(f.Entries))
	}
	return f.Entries, nil
}

// maxDepth is how deep directories may be nested.
const maxDepth = 512

// components returns the parts of a path in a layer; nil for the root, and
// false for a path that leads out of it.
func components(name string) ([]string, bool) {
	if strings.IndexByte(name, 0) >= 0 || len(name) > 4096 {
		return nil, false
	}
	depth := 0
	for p := range strings.SplitSeq(name, "/") {
		switch p {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return nil, false
			}
		default:
			if depth++; len(p) > 255 || depth > maxDepth {
				return nil, false
			}
		}
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return nil, true
	}
	return strings.Split(clean, "/"), true
}

func parseTime(s string) (sec int64, nsec uint32) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if s == "" || err != nil || t.IsZero() {
		return 0, 0
	}
	return t.Unix(), uint32(t.Nanosecond())
}

func parseDigest(s string) (d storage.Digest, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "sha256:"))
	if !strings.HasPrefix(s, "sha256:") || err != nil || len(b) != 32 {
		return d, false
	}
	return storage.Digest{Sum: [32]byte(b), Algorithm: storage.SHA256}, true
}

// span is a chunk and where it stands in its file.
type span struct {
	off   int64
	size  int64  // of the chunk, or of a hole
	skip  uint32 // bytes of the chunk before those of the file
	chunk storage.Chunk
}

// chunker makes the chunks of one layer.
type chunker struct {
	blob    *storage.Blob
	ends    []int64 // places in the layer where a member or frame begins, and the end, in order
	groups  map[int64]*storage.Group
	list    []*storage.Chunk // by index
	largest uint32
}

func newChunker(l *Layer, index int, c storage.Compressor, end int64, entries []tocEntry) *chunker {
	k := &chunker{
		blob: &storage.Blob{
			ID: l.ID, Index: index, Size: l.Size, DataSize: end, Compressor: c, Digester: storage.SHA256,
		},
		groups: map[int64]*storage.Group{},
		ends:   []int64{end},
	}
	for i := range entries {
		if o := entries[i].Offset; o >= 0 && o < end {
			k.ends = append(k.ends, o)
		}
	}
	slices.Sort(k.ends)
	k.ends = slices.Compact(k.ends)
	return k
}

// file returns the chunks of the regular file that entries[0] begins, and how
// many entries it takes.
func (k *chunker) file(entries []tocEntry) (spans []span, n int, err error) {
	size := entries[0].Size
	n = 1
	for n < len(entries) && entries[n].Type == "chunk" && entries[n].Name == entries[0].Name {
		n++
	}
	if size < 0 || size > 1<<44 {
		return nil, n, bad("%q: size %d", entries[0].Name, size)
	}
	at := int64(0)
	for i := 0; i < n && size > 0; i++ {
		e := &entries[i]
		s := span{off: e.ChunkOffset, size: e.ChunkSize}
		if s.size == 0 {
			s.size = size - s.off
		}
		if s.off != at || s.size <= 0 || s.size > size-at {
			return nil, n, bad("%q: chunk %d+%d, where %d of %d is due", e.Name, e.ChunkOffset, e.ChunkSize, at, size)
		}
		digest := e.ChunkDigest
		if digest == "" && n == 1 {
			digest = e.Digest
		}
		if e.ChunkType == "zeros" {
			at += s.size
			spans = append(spans, s)
			continue
		}
		said := e.EndOffset
		if said == 0 {
			said = entries[0].EndOffset // of all the file's chunks
		}
		if err := k.chunk(&s, e, said, digest); err != nil {
			return nil, n, err
		}
		at += s.size
		spans = append(spans, s)
	}
	for i := range spans {
		if spans[i].chunk.Blob != nil {
			k.list = append(k.list, &spans[i].chunk)
		}
	}
	if at != size {
		return nil, n, bad("%q: chunks for %d of %d bytes", entries[0].Name, at, size)
	}
	return spans, n, nil
}

// chunk fills in the chunk of s. It is stored up to the next place that the
// table has, or up to said, if that is nearer and not 0.
func (k *chunker) chunk(s *span, e *tocEntry, said int64, digest string) error {
	if s.size > codec.MaxSize {
		return bad("%q: a chunk of %d bytes is larger than the %d supported", e.Name, s.size, codec.MaxSize)
	}
	d, ok := parseDigest(digest)
	if !ok {
		return bad("%q: chunk at %d has no digest", e.Name, s.off)
	}
	b := k.blob
	if e.Offset < 0 || e.Offset >= b.DataSize || b.ChunkCount == 1<<24 {
		return bad("%q: chunk at %d of the layer", e.Name, e.Offset)
	}
	i, found := slices.BinarySearch(k.ends, e.Offset+1) // the next place behind
	if !found && i == len(k.ends) {
		return bad("%q: chunk at %d of the layer has no end", e.Name, e.Offset)
	}
	end := k.ends[i]
	if said != 0 {
		if said <= e.Offset || said > b.DataSize {
			return bad("%q: chunk at %d of the layer ends at %d", e.Name, e.Offset, said)
		}
		end = min(end, said)
	}
	stored := end - e.Offset
	if stored > codec.MaxSize+codec.MaxSize/8 {
		return bad("%q: %d stored bytes for a chunk", e.Name, stored)
	}
	s.chunk = storage.Chunk{
		Blob: b, Offset: e.Offset, UncompressedOffset: b.UncompressedSize, Size: uint32(stored), UncompressedSize: uint32(s.size),
		Index: b.ChunkCount, Digest: d, Flags: storage.HasDigest | storage.Compressed,
	}
	b.ChunkCount++
	b.UncompressedSize += (s.size + 4095) &^ 4095
	k.largest = max(k.largest, uint32(s.size))
	if b.Compressor == storage.Gzip || e.InnerOffset != 0 || said == 0 {
		return k.member(s, e, uint32(stored))
	}
	return nil
}

// member makes the chunk part of its gzip member or zstd frame, which has the
// tar header of the next file at its end, and may have several files.
func (k *chunker) member(s *span, e *tocEntry, stored uint32) error {
	end := e.InnerOffset + s.size
	if e.InnerOffset < 0 || e.InnerOffset > codec.MaxSize || end > codec.MaxSize {
		return bad("%q: chunk at %d inside of a member", e.Name, e.InnerOffset)
	}
	g := k.groups[e.Offset]
	if g == nil {
		g = &storage.Group{
			Offset: e.Offset, Size: stored, Index: uint32(len(k.groups)), Base: s.chunk.UncompressedOffset,
			Deflate: k.blob.Compressor == storage.Gzip, Prefix: true,
		}
		k.groups[e.Offset] = g
	}
	g.UncompressedSize = max(g.UncompressedSize, uint32(end))
	s.chunk.Group, s.chunk.GroupOffset = g, uint32(e.InnerOffset)
	s.chunk.Flags |= storage.InGroup
	return nil
}

// finish sets what is known of the blob when all its chunks are.
func (k *chunker) finish() {
	list := k.list
	k.blob.Neighbour = func(i uint32) (c storage.Chunk, ok bool) {
		if i < uint32(len(list)) {
			c, ok = *list[i], true
		}
		return c, ok
	}
	k.blob.ChunkSize = 4096
	for k.blob.ChunkSize < k.largest {
		k.blob.ChunkSize *= 2
	}
}
