package build

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/storage"
)

// Cuts decide what images share, so they may never change. These were made
// by this cutter; a change of them breaks the dedup with every older image.
func TestCutterGolden(t *testing.T) {
	c := newCutter(64 << 10)
	p := randomBytes(77, 200_000)
	var got []int
	for len(p) > 0 {
		n := c.end(p)
		got = append(got, n)
		p = p[n:]
	}
	want := []int{10606, 8444, 6473, 9648, 10541, 8243, 8978, 9996, 13151, 9430, 5128, 9240, 3010, 8833, 12521, 9879, 3517, 11061, 2736, 10785, 12377, 10116, 5287}
	if !slices.Equal(got, want) {
		t.Errorf("sizes of chunks: got %v, want %v", got, want)
	}
}

func TestCutterBounds(t *testing.T) {
	const size = 2 << 20
	for _, largest := range []uint32{4096, 64 << 10, 256 << 10} {
		c := newCutter(largest)
		for name, p := range map[string][]byte{"zeros": make([]byte, size), "random": randomBytes(5, size), "text": text(9, size)} {
			chunks, smallest := 0, c.max
			for len(p) > 0 {
				chunks++
				n := c.end(p)
				if n <= 0 || n > c.max || n > len(p) {
					t.Fatalf("%s: chunk of %d bytes at %d of %d, the largest is %d", name, n, size-len(p), size, c.max)
				}
				if p = p[n:]; len(p) > 0 {
					smallest = min(smallest, n)
				}
			}
			if smallest < c.min {
				t.Errorf("%s: smallest chunk: got %d bytes, want at least %d", name, smallest, c.min)
			}
			if name == "random" && (chunks < size/(2*c.avg) || chunks > 2*size/c.avg) {
				t.Errorf("largest %d: got %d chunks of %d bytes, want an average near %d", largest, chunks, size, c.avg)
			}
		}
	}
}

// Bytes that an insertion has moved are found again, in the image and in a
// dictionary; the image is whole and survives every way to another image.
func TestContentChunks(t *testing.T) {
	src := makeSource(t)
	old := randomBytes(41, 3<<20)
	write := func(name string, parts ...[]byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(src, name), bytes.Join(parts, nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("old", old)
	write("moved", []byte("!"), old)
	opt := Options{Version: 5, ChunkSize: 256 << 10, Chunking: ContentChunks, Compressor: storage.LZ4Block}
	tree, res, dir := create(t, Dir(src), opt)
	if res.DedupSize < int64(len(old))*9/10 {
		t.Errorf("dedup: got %d bytes, want nearly all of the %d that moved", res.DedupSize, len(old))
	}
	want := osLines(t, src)
	sameLines(t, "image", treeLines(t, tree, blobFiles(dir)), want)
	r, err := check.Run(t.Context(), tree, check.Options{Backend: backend(t, dir)})
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("check: %v, %v", err, r)
	}
	// Random ranges, through the look-up by offset.
	nid, err := image.Find(tree, "moved")
	if err != nil {
		t.Fatal(err)
	}
	all := append([]byte("!"), old...)
	reader := newChunkReader(t.Context(), backend(t, dir))
	for off := int64(0); off < int64(len(all)); off += 40_961 {
		p := make([]byte, min(100_000, int64(len(all))-off))
		ext, err := tree.Extents(nil, nid, off, int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.extents(p, ext); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, all[off:off+int64(len(p))]) {
			t.Fatalf("bytes at %d differ", off)
		}
	}

	// Against a dictionary.
	next := t.TempDir()
	if err := os.WriteFile(filepath.Join(next, "new"), bytes.Join([][]byte{old[:1_000_000], []byte("inserted"), old[1_000_000:]}, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	opt.Dicts = []image.Tree{tree}
	out := Output{Bootstrap: filepath.Join(dir, "next.boot"), BlobDir: dir}
	res, err = Create(t.Context(), Dir(next), out, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Written) != 1 || res.Written[0].UncompressedSize > 500_000 {
		t.Errorf("with a dictionary: wrote %+v, want only what is new", res.Written)
	}
	sameLines(t, "with a dictionary", treeLines(t, openTree(t, out.Bootstrap), blobFiles(dir)), osLines(t, next))

	// Merged, compacted, with hot ranges, made to v6.
	merged := filepath.Join(dir, "merged.boot")
	if _, err := Merge(t.Context(), []MergeLayer{{Tree: tree}, {Tree: openTree(t, out.Bootstrap)}}, Output{Bootstrap: merged}, Options{}); err != nil {
		t.Fatal(err)
	}
	both := openTree(t, merged)
	got := treeLines(t, both, blobFiles(dir))
	if got["/moved"] != want["/moved"] {
		t.Errorf("merged: got %s, want %s", got["/moved"], want["/moved"])
	}
	hot := Output{Bootstrap: filepath.Join(dir, "hot.boot"), BlobDir: dir}
	if _, err := Optimize(t.Context(), tree, backend(t, dir), []Hot{{Path: "/moved", Offset: 700_000, Length: 1}}, hot, Options{}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "optimized", treeLines(t, openTree(t, hot.Bootstrap), blobFiles(dir)), want)
	six, _, dir6 := create(t, Image(tree, backend(t, dir)), Options{})
	sameLines(t, "as v6", treeLines(t, six, blobFiles(dir6)), want)
	again, _, dir5 := create(t, Image(six, backend(t, dir6)), Options{Version: 5, Chunking: ContentChunks})
	sameLines(t, "and again", treeLines(t, again, blobFiles(dir5)), want)
	if _, err := Export(t.Context(), tree, backend(t, dir), filepath.Join(dir, "flat"), ExportOptions{}); !errors.Is(err, errVariable) {
		t.Errorf("export: got %v, want %v", err, errVariable)
	}
}

// A file that ends early fails the build by its name, and once.
func TestContentChunksShortTar(t *testing.T) {
	full := archive(t, "f a "+string(text(1, 300_000)))
	cut := bytesLayer("cut.tar", full[:200_000])
	err := failing(t, t.Context(), t.TempDir(), "unexpected EOF", Tars(cut), Options{Version: 5, Chunking: ContentChunks})
	if !errors.Is(err, io.ErrUnexpectedEOF) || strings.Count(err.Error(), "read ") != 1 {
		t.Errorf("got %v", err)
	}
	failing(t, t.Context(), t.TempDir(), "content-defined", Tars(cut), Options{Chunking: ContentChunks})
}
