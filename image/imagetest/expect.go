package imagetest

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Listing reads a listing that has [Header] as its first line, and returns
// its lines by path.
func Listing(t testing.TB, file string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		path, _, _ := strings.Cut(line, "\t")
		lines[path] = line
	}
	if lines["path"] != Header {
		t.Fatalf("%s: first line: got %q, want %q", file, lines["path"], Header)
	}
	delete(lines, "path")
	return lines
}

// Expect compares the tree with a listing. sum gives the SHA-256 of a
// regular file in hex; if it is nil, the one in the listing is not checked.
func Expect(t testing.TB, tree image.Tree, want map[string]string, sum func(*Entry) (string, error)) {
	t.Helper()
	n := 0
	err := Walk(tree, 2*len(want), func(e *Entry) error {
		n++
		chunks, digest := 0, ""
		f := strings.Split(want[e.Path], "\t")
		if len(f) > 11 {
			digest = f[11]
		}
		if e.Mode&0o170000 == 0o100000 {
			ext, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
			if err != nil {
				return err
			}
			chunks = len(ext)
			CheckExtents(t, e, ext)
			if sum != nil {
				if digest, err = sum(e); err != nil {
					return err
				}
			}
		}
		if got := e.Line(strconv.Itoa(chunks), digest); got != want[e.Path] {
			t.Errorf("%s\ngot  %q\nwant %q", e.Path, got, want[e.Path])
		}
		nid := tree.Root()
		var err error
		for name := range strings.SplitSeq(strings.Trim(e.Path, "/"), "/") {
			if name == "" {
				continue
			}
			if nid, err = tree.Lookup(nid, name); err != nil {
				return err
			}
		}
		if nid != e.NID {
			t.Errorf("%s: looked up: got inode %d, want %d", e.Path, nid, e.NID)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if n != len(want) {
		t.Errorf("entries: got %d, want %d", n, len(want))
	}
}

// CheckExtents checks that ext covers the file e without a gap, and that no
// chunk is larger than its blob says.
func CheckExtents(t testing.TB, e *Entry, ext []storage.Extent) {
	t.Helper()
	at := int64(0)
	for i := range ext {
		x := &ext[i]
		if x.FileOffset != at || x.Length <= 0 {
			t.Errorf("%s: extent %d: got %d+%d, want from %d", e.Path, i, x.FileOffset, x.Length, at)
		}
		at += x.Length
		if !x.Hole() && int64(x.ChunkOffset)+x.Length > int64(x.Chunk.UncompressedSize) {
			t.Errorf("%s: extent %d: %d+%d is not within its chunk of %d bytes", e.Path, i, x.ChunkOffset, x.Length, x.Chunk.UncompressedSize)
		}
	}
	if len(ext) > 0 && at != int64(e.Size) {
		t.Errorf("%s: extents end at %d, want %d", e.Path, at, e.Size)
	}
}
