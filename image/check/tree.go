package check

import (
	"bytes"
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

const (
	maxDepth = 4096
	pageSize = 64 << 10 // inline data is read in pieces of it
)

func sortedKeys[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }

// dir checks a directory and all below it.
func (c *checker) dir(name string, nid, parent uint64, depth int) {
	var in image.Inode
	if !c.inode(name, nid, &in) {
		return
	}
	if in.Mode&image.TypeMask != image.TypeDirectory {
		c.problem(name, "inode %d is not a directory", nid)
		return
	}
	if depth > maxDepth {
		c.problem(name, "directories are nested too deep")
		return
	}
	d := dirCheck{c: c, name: name, nid: nid, parent: parent}
	if err := c.tree.ReadDir(nid, 0, d.entry); err != nil {
		c.problem(name, "%v", err)
	}
	if !c.stop() && d.dots != 2 && d.dots != 0 {
		c.problem(name, `one of "." and ".." is missing`)
	}
	for _, e := range d.entries {
		if c.stop() {
			return
		}
		c.child(&d, e, depth)
	}
}

// entry is a name in a directory.
type entry struct {
	name string
	nid  uint64
	typ  uint8
}

// dirCheck is the check of one directory.
type dirCheck struct {
	c           *checker
	name        string
	nid, parent uint64
	last        []byte
	dots        int
	entries     []entry
}

func (d *dirCheck) entry(e image.Dirent) bool {
	c := d.c
	n := string(e.Name)
	synthetic := strings.HasPrefix(c.r.Format, "rafs v5") && (n == "." || n == "..")
	if !synthetic {
		if d.last != nil && bytes.Compare(d.last, e.Name) >= 0 {
			c.problem(d.name, "entry %q stands behind %q", n, d.last)
		}
		d.last = e.Name
	}
	switch n {
	case ".", "..":
		d.dots++
		want := d.nid
		if n == ".." {
			want = d.parent
		}
		if e.NID != want {
			c.problem(d.name, "entry %q is inode %d, not %d", n, e.NID, want)
		}
	default:
		d.entries = append(d.entries, entry{n, e.NID, e.Type})
	}
	return !c.stop()
}

func (c *checker) child(d *dirCheck, e entry, depth int) {
	name := path.Join(d.name, e.name)
	if nid, err := c.tree.Lookup(d.nid, e.name); err != nil || nid != e.nid {
		c.problem(name, "is in the directory as inode %d, looked up as %d, %v", e.nid, nid, err)
	}
	var in image.Inode
	if err := c.tree.Stat(e.nid, &in); err != nil {
		c.problem(name, "%v", err)
		return
	}
	if e.typ != 0 && uint32(e.typ) != in.Mode>>12 {
		c.problem(name, "entry has type %d, its inode mode %#o", e.typ, in.Mode)
	}
	if in.Mode&image.TypeMask == image.TypeDirectory {
		c.links[d.nid].subdirs++
		c.dir(name, e.nid, d.nid, depth+1)
		return
	}
	if c.inode(name, e.nid, &in) {
		c.content(name, e.nid, &in)
	}
}

// inode checks what all types have. It returns false for an inode that is
// wrong or has been met by another name.
func (c *checker) inode(name string, nid uint64, in *image.Inode) bool {
	if c.stop() {
		return false
	}
	c.r.Entries++
	if c.o.Progress != nil && c.r.Entries%1024 == 0 {
		c.o.Progress(c.chunks.progress(c.r.Entries))
	}
	if err := c.tree.Stat(nid, in); err != nil {
		c.problem(name, "%v", err)
		return false
	}
	dir := in.Mode&image.TypeMask == image.TypeDirectory
	c.count(in)
	if l := c.links[nid]; l != nil {
		l.names++
		if dir {
			c.problem(name, "directory has two names, the other is %s", l.path)
		}
		return false
	}
	c.links[nid] = &links{path: name, names: 1, nlink: in.Nlink, dir: dir}
	if in.MTimeNsec >= 1e9 {
		c.problem(name, "time has %d ns", in.MTimeNsec)
	}
	c.xattrs(name, nid)
	if v, ok := c.tree.(interface{ CheckDigest(nid uint64) error }); ok {
		if err := v.CheckDigest(nid); err != nil {
			c.problem(name, "%v", err)
		}
	}
	return true
}

func (c *checker) count(in *image.Inode) {
	switch in.Mode & image.TypeMask {
	case image.TypeDirectory:
		c.r.Directories++
	case image.TypeRegular:
		c.r.Files++
		c.r.FileBytes += in.Size
	case image.TypeSymlink:
		c.r.Symlinks++
	default:
		c.r.Specials++
	}
}

func (c *checker) xattrs(name string, nid uint64) {
	seen := map[string]bool{}
	err := c.tree.ListXattr(nid, func(prefix string, suffix []byte) bool {
		attr := prefix + string(suffix)
		if seen[attr] {
			c.problem(name, "attribute %q stands twice", attr)
		}
		seen[attr] = true
		if _, err := c.tree.Xattr(nid, attr); err != nil {
			c.problem(name, "attribute %q: %v", attr, err)
		}
		return !c.stop()
	})
	if err != nil {
		c.problem(name, "%v", err)
	}
}

// content checks the data of an inode that is no directory.
func (c *checker) content(name string, nid uint64, in *image.Inode) {
	switch in.Mode & image.TypeMask {
	case image.TypeSymlink:
		target, err := c.tree.Readlink(nid)
		if err != nil {
			c.problem(name, "%v", err)
		} else if uint64(len(target)) != in.Size {
			c.problem(name, "link target has %d bytes, the inode says %d", len(target), in.Size)
		}
	case image.TypeRegular:
		if in.Size > 0 {
			c.file(name, nid, int64(in.Size))
		}
	}
}

func (c *checker) file(name string, nid uint64, size int64) {
	var buf [1]byte
	n, inline, err := c.tree.Inline(buf[:], nid, size-1)
	switch {
	case err != nil:
		c.problem(name, "%v", err)
		return
	case inline && n == 1:
		c.inline(name, nid, size)
		return
	case inline:
		c.problem(name, "data ends before byte %d", size)
		return
	}
	for off := int64(0); off < size && !c.stop(); {
		c.ext, err = c.tree.Extents(c.ext[:0], nid, off, 64<<20)
		if err == nil && len(c.ext) == 0 {
			c.problem(name, "no data at %d of %d", off, size)
			return
		}
		for i := range c.ext {
			if c.ext[i].FileOffset != off || c.ext[i].Length <= 0 {
				c.problem(name, "extent %d+%d, where %d is due", c.ext[i].FileOffset, c.ext[i].Length, off)
				return
			}
			off += c.ext[i].Length
			if !c.ext[i].Hole() {
				c.chunks.add(name, &c.ext[i].Chunk)
			}
		}
		if err != nil {
			c.problem(name, "%v", err)
			return
		}
	}
}

// inline reads all of the data that the image itself has.
func (c *checker) inline(name string, nid uint64, size int64) {
	buf := make([]byte, min(size, pageSize))
	for off := int64(0); off < size && !c.stop(); {
		n, _, err := c.tree.Inline(buf, nid, off)
		if err != nil || n == 0 {
			c.problem(name, "data at %d: %d bytes, %v", off, n, err)
			return
		}
		off += int64(n)
	}
}

// spanner is implemented by trees whose inodes lie in a place of their own.
type spanner interface {
	Span(nid uint64) (start, end uint64, err error)
}

// overlaps looks for inodes that share bytes.
func (c *checker) overlaps() {
	s, ok := c.tree.(spanner)
	if !ok || c.stop() {
		return
	}
	type span struct{ start, end, nid uint64 }
	spans := make([]span, 0, len(c.links))
	for _, nid := range sortedKeys(c.links) {
		start, end, err := s.Span(nid)
		if err != nil {
			c.problem(c.links[nid].path, "%v", err)
			continue
		}
		spans = append(spans, span{start, end, nid})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(spans) && !c.stop(); i++ {
		if a, b := spans[i-1], spans[i]; b.start < a.end {
			c.problem(c.links[b.nid].path, "inode at %d overlaps that of %s, which ends at %d", b.start, c.links[a.nid].path, a.end)
		}
	}
}

// recorder is implemented by trees with a table of all chunks.
type recorder interface {
	Records(func(*storage.Chunk, error) bool) error
}

// records checks the table of chunks, also those that no file has.
func (c *checker) records() {
	r, ok := c.tree.(recorder)
	if !ok || c.stop() {
		return
	}
	err := r.Records(func(ch *storage.Chunk, err error) bool {
		if err != nil {
			c.problem("", "%v", err)
		}
		return !c.stop()
	})
	if err != nil {
		c.problem("", "%v", err)
	}
}
