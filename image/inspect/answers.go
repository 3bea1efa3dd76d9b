package inspect

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Stat is all that is known of one file.
type Stat Entry

// Rows returns a name and a value a line, then the chunks.
func (e Stat) Rows() [][]string {
	rows := [][]string{
		nil, {"path", e.Path}, {"inode", strconv.FormatUint(e.Inode, 10)}, {"mode", e.Mode},
		{"links", strconv.FormatUint(uint64(e.Nlink), 10)}, {"owner", fmt.Sprintf("%d:%d", e.UID, e.GID)},
		{"size", strconv.FormatUint(e.Size, 10)}, {"mtime", e.MTime.Format("2006-01-02 15:04:05.999999999")},
	}
	if e.Link != "" {
		rows = append(rows, []string{"link", e.Link})
	}
	if e.Rdev != "" {
		rows = append(rows, []string{"device", e.Rdev})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		rows = append(rows, []string{"xattr", name + "=" + valueText(e.Xattrs[name])})
	}
	for _, c := range e.Chunks {
		rows = append(rows, []string{"chunk", c.text()})
	}
	return rows
}

// valueText returns an xattr's value as it is if it is text, else in hex.
func valueText(v []byte) string {
	if s := string(v); strconv.Quote(s) == `"`+s+`"` {
		return s
	}
	return "0x" + hex.EncodeToString(v)
}

func (c *Chunk) text() string {
	if c.Hole {
		return fmt.Sprintf("%d+%d hole", c.FileOffset, c.Length)
	}
	return fmt.Sprintf("%d+%d blob %s index %d stored %d+%d uncompressed %d+%d %s", c.FileOffset, c.Length,
		c.Blob, c.Index, c.Offset, c.Size, c.UncompressedOffset, c.UncompressedSize, c.Digest)
}

// Entries are the entries of directories.
type Entries []Entry

// Rows returns an entry a line.
func (l Entries) Rows() [][]string {
	rows := [][]string{{"INODE", "MODE", "LINKS", "OWNER", "SIZE", "MTIME", "NAME"}}
	for _, e := range l {
		name := e.Path
		if e.Link != "" {
			name += " -> " + e.Link
		}
		size := strconv.FormatUint(e.Size, 10)
		if e.Rdev != "" {
			size = e.Rdev
		}
		rows = append(rows, []string{
			strconv.FormatUint(e.Inode, 10), e.Mode, strconv.FormatUint(uint64(e.Nlink), 10),
			fmt.Sprintf("%d:%d", e.UID, e.GID), size, e.MTime.Format("2006-01-02 15:04:05"), name,
		})
	}
	return rows
}

func (s *Session) list(p string) (Answer, error) {
	name, dir, err := s.find(p)
	if err != nil {
		return nil, err
	}
	if dir.Mode&image.TypeMask != image.TypeDirectory {
		e, err := s.entry(path.Base(name), &dir, false)
		return Entries{e}, err
	}
	l := Entries{}
	var failed error
	err = s.t.ReadDir(dir.NID, 0, func(d image.Dirent) bool {
		var in image.Inode
		var e Entry
		if failed = s.t.Stat(d.NID, &in); failed == nil {
			e, failed = s.entry(string(d.Name), &in, false)
		}
		l = append(l, e)
		return failed == nil
	})
	if failed != nil {
		err = failed
	}
	return l, err
}

func (s *Session) tree(p string) (Answer, error) {
	name, dir, err := s.find(p)
	if err != nil {
		return nil, err
	}
	l := Entries{}
	var failed error
	err = image.WalkBelow(s.t, dir.NID, func(p string, nid uint64, _ uint8) bool {
		var in image.Inode
		var e Entry
		if failed = s.t.Stat(nid, &in); failed == nil {
			e, failed = s.entry(path.Join(name, p), &in, false)
		}
		l = append(l, e)
		return failed == nil
	})
	if failed != nil {
		err = failed
	}
	slices.SortFunc(l, func(a, b Entry) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
	return l, err
}

// Stats says what an image is.
type Stats struct {
	Format     string `json:"format"`
	Inodes     uint64 `json:"inodes"` // as the image says, 0 if it does not
	BlockSize  uint32 `json:"block_size"`
	ChunkSize  uint32 `json:"chunk_size"`
	Metadata   int64  `json:"metadata_bytes"`
	Flags      string `json:"flags"`
	Digester   string `json:"digester"`
	Compressor string `json:"compressor"`
	Blobs      int    `json:"blobs"`
	Entries    uint64 `json:"entries"` // counted: names, the root included
	Dirs       uint64 `json:"directories"`
	Files      uint64 `json:"files"`
	Symlinks   uint64 `json:"symlinks"`
}

// Rows returns a name and a value a line.
func (s Stats) Rows() [][]string {
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	return [][]string{
		nil, {"format", s.Format}, {"inodes", n(s.Inodes)}, {"block size", n(uint64(s.BlockSize))},
		{"chunk size", n(uint64(s.ChunkSize))}, {"metadata", n(uint64(s.Metadata))}, {"flags", s.Flags},
		{"digester", s.Digester}, {"compressor", s.Compressor}, {"blobs", strconv.Itoa(s.Blobs)},
		{"entries", n(s.Entries)}, {"directories", n(s.Dirs)}, {"files", n(s.Files)}, {"symlinks", n(s.Symlinks)},
	}
}

func (s *Session) stats() (Answer, error) {
	info := s.t.Info()
	r := Stats{
		Format: info.Format, Inodes: info.Inodes, BlockSize: info.BlockSize, ChunkSize: info.ChunkSize, Metadata: info.Size,
		Flags: fmt.Sprintf("%#x", info.Flags), Digester: info.Digester.String(), Compressor: info.Compressor.String(),
		Blobs: len(s.t.Blobs()),
	}
	err := image.Walk(s.t, func(_ string, _ uint64, typ uint8) bool {
		r.Entries++
		switch uint32(typ) << 12 {
		case image.TypeDirectory:
			r.Dirs++
		case image.TypeRegular:
			r.Files++
		case image.TypeSymlink:
			r.Symlinks++
		}
		return true
	})
	return r, err
}

// Blob is a blob of the image.
type Blob struct {
	Index        int    `json:"index"`
	ID           string `json:"id"`
	Size         int64  `json:"size"`
	Uncompressed int64  `json:"uncompressed_size"`
	Chunks       uint32 `json:"chunks"`
	ChunkSize    uint32 `json:"chunk_size"`
	Compressor   string `json:"compressor"`
	Digester     string `json:"digester"`
	Encrypted    bool   `json:"encrypted,omitempty"`
}

// Blobs is the blob table.
type Blobs []Blob

// Rows returns a blob a line.
func (l Blobs) Rows() [][]string {
	rows := [][]string{{"INDEX", "SIZE", "UNCOMPRESSED", "CHUNKS", "COMPRESSOR", "ID"}}
	for _, b := range l {
		rows = append(rows, []string{
			strconv.Itoa(b.Index), strconv.FormatInt(b.Size, 10), strconv.FormatInt(b.Uncompressed, 10),
			strconv.FormatUint(uint64(b.Chunks), 10), b.Compressor, b.ID,
		})
	}
	return rows
}

func (s *Session) blobs() Answer {
	l := Blobs{}
	for _, b := range s.t.Blobs() {
		l = append(l, Blob{
			b.Index, b.ID, b.Size, b.UncompressedSize, b.ChunkCount, b.ChunkSize,
			b.Compressor.String(), b.Digester.String(), b.Cipher != nil,
		})
	}
	return l
}

func (s *Session) prefetch() (Answer, error) {
	l := Entries{}
	for _, nid := range s.t.Prefetch() {
		p, err := image.PathOf(s.t, nid)
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", nid, err)
		}
		_, in, err := s.find(p)
		if err != nil {
			return nil, err
		}
		e, err := s.entry(p, &in, false)
		if err != nil {
			return nil, err
		}
		l = append(l, e)
	}
	return l, nil
}

// Use is a chunk and a file that has it.
type Use struct {
	Path string `json:"path"`
	Chunk
}

// Uses are the files that have chunks at some place.
type Uses []Use

// Rows returns a file a line.
func (l Uses) Rows() [][]string {
	rows := [][]string{{"PATH", "CHUNK"}}
	for _, u := range l {
		rows = append(rows, []string{u.Path, u.text()})
	}
	return rows
}

func (s *Session) chunk(arg string) (Answer, error) {
	off, err := number(arg, "an offset in a blob")
	if err != nil {
		return nil, err
	}
	uses := Uses{}
	var ext []storage.Extent
	var failed error
	err = image.Walk(s.t, func(p string, nid uint64, typ uint8) bool {
		if uint32(typ)<<12 != image.TypeRegular {
			return true
		}
		var in image.Inode
		if failed = s.t.Stat(nid, &in); failed == nil {
			ext, failed = s.t.Extents(ext[:0], nid, 0, int64(in.Size))
		}
		for i := range ext {
			if c := describe(&ext[i]); !c.Hole && c.Offset <= int64(off) && int64(off) < c.Offset+int64(c.Size) {
				uses = append(uses, Use{p, c})
			}
		}
		return failed == nil
	})
	if failed != nil {
		err = failed
	}
	return uses, err
}
