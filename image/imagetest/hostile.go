package imagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Exercise asks a tree of unknown, perhaps hostile, metadata everything that
// a file system asks, with bounded work: at most limit entries, and directory
// nesting of at most 64. It returns an error when an answer breaks the rules
// of [image.Tree]; that the tree itself gives errors is right.
func Exercise(t image.Tree, limit int) error {
	x := exerciser{t: t, left: limit}
	t.Info()
	t.Prefetch()
	for i, b := range t.Blobs() {
		if b.Index != i {
			return fmt.Errorf("blob %d says that it is blob %d", i, b.Index)
		}
	}
	x.node("/", t.Root(), 0)
	for _, nid := range [...]uint64{0, 1, 2, 1 << 31, 1 << 63, 1<<64 - 1} {
		x.node("odd", nid, 64)
	}
	return x.bad
}

type exerciser struct {
	t    image.Tree
	left int
	ext  []storage.Extent
	bad  error
}

// allowed notes err unless it is one that a tree may give.
func (x *exerciser) allowed(name string, err error) bool {
	var format *image.FormatError
	if err != nil && !errors.As(err, &format) && x.bad == nil {
		x.bad = fmt.Errorf("%s: got error %T %w, want a FormatError", name, err, err)
	}
	return err == nil
}

func (x *exerciser) node(name string, nid uint64, depth int) {
	if x.left--; x.left < 0 {
		return
	}
	var in image.Inode
	if !x.allowed(name, x.t.Stat(nid, &in)) {
		return
	}
	x.xattrs(name, nid)
	switch in.Mode & 0o170000 {
	case 0o100000:
		x.data(name, nid, int64(in.Size))
	case 0o120000:
		_, err := x.t.Readlink(nid)
		x.allowed(name, err)
	case 0o040000:
		x.dir(name, nid, depth)
	}
}

func (x *exerciser) xattrs(name string, nid uint64) {
	n := 0
	err := x.t.ListXattr(nid, func(prefix string, suffix []byte) bool {
		n++
		_, err := x.t.Xattr(nid, prefix+string(suffix))
		return (err == image.ErrNoXattr || x.allowed(name, err)) && n < 64
	})
	x.allowed(name, err)
	if _, err := x.t.Xattr(nid, "user.none"); err != image.ErrNoXattr {
		x.allowed(name, err)
	}
}

func (x *exerciser) data(name string, nid uint64, size int64) {
	var buf [512]byte
	for _, off := range [...]int64{0, size / 2, size - 1, 1 << 62} {
		n, _, err := x.t.Inline(buf[:], nid, max(off, 0))
		x.allowed(name, err)
		if n > len(buf) {
			x.bad = fmt.Errorf("%s: inline gave %d bytes of %d", name, n, len(buf))
		}
		x.ext, err = x.t.Extents(x.ext[:0], nid, off, 4<<20)
		x.allowed(name, err)
		at := off
		for i := range x.ext {
			e := &x.ext[i]
			if e.FileOffset != at || e.Length <= 0 || e.Length > size-at {
				x.bad = fmt.Errorf("%s: extent %d+%d at %d of %d", name, e.FileOffset, e.Length, at, size)
				return
			}
			at += e.Length
			if !e.Hole() && int64(e.ChunkOffset)+e.Length > int64(e.Chunk.UncompressedSize) {
				x.bad = fmt.Errorf("%s: extent of %d+%d in a chunk of %d", name, e.ChunkOffset, e.Length, e.Chunk.UncompressedSize)
			}
		}
	}
}

func (x *exerciser) dir(name string, nid uint64, depth int) {
	type child struct {
		name string
		nid  uint64
	}
	var children []child
	last := uint64(0)
	err := x.t.ReadDir(nid, 0, func(d image.Dirent) bool {
		if d.Next <= last {
			x.bad = fmt.Errorf("%s: cookie %d behind %d", name, d.Next, last)
		}
		last = d.Next
		if s := string(d.Name); s != "." && s != ".." {
			children = append(children, child{s, d.NID})
		}
		return len(children) < x.left
	})
	x.allowed(name, err)
	for _, c := range children {
		if _, err := x.t.Lookup(nid, c.name); err != fs.ErrNotExist {
			x.allowed(name, err)
		}
		if depth < 64 {
			x.node(path.Join(name, c.name), c.nid, depth+1)
		}
	}
	if _, err := x.t.Lookup(nid, "no such name"); err != fs.ErrNotExist {
		x.allowed(name, err)
	}
}

// Patch returns a copy of b with changes that a fuzzer chooses: each 4 bytes
// of patch are a place, as 24 bits, and the byte to put there; 0xffffff as
// the place cuts what is behind the last one. Small inputs so make large
// images wrong, and the fuzzer need not minimise the image itself.
func Patch(b, patch []byte) []byte {
	b = bytes.Clone(b)
	at := len(b)
	for ; len(patch) >= 4 && len(b) > 0; patch = patch[4:] {
		place := int(patch[0]) | int(patch[1])<<8 | int(patch[2])<<16
		if place == 0xffffff {
			return b[:min(at, len(b))]
		}
		at = place % len(b)
		b[at] = patch[3]
	}
	return b
}

// File reads a file of a test.
func File(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
