// Package diff compares two images name by name: what is only in one of
// them, and which attributes and contents differ. Contents are compared by
// the digests of chunks where both images cut files alike, and by their bytes
// elsewhere.
package diff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/storage"
)

// Side is one of the two images.
type Side struct {
	Tree    image.Tree
	Backend storage.Backend // of its blobs; nil if they are not at hand
}

// Kind says what happened to a name from the old image to the new.
type Kind string

// The kinds of change.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// Change is a name that is not alike in both images.
type Change struct {
	Path string   `json:"path"`
	Kind Kind     `json:"kind"`
	What []string `json:"what,omitempty"` // of Changed: type, mode, owner, time, size, link, device, xattrs, content, "content unknown"
}

// errUnknown marks contents that can not be compared,
// because the images cut files differently and blobs are missing.
var errUnknown = errors.New("blobs are missing")

// Images calls f for each change from one image to the other, parents first
// and names in order, until f returns false. Below a directory that is only
// in one image nothing more is listed.
func Images(ctx context.Context, from, to Side, f func(Change) bool) error {
	c := &comparer{ctx: ctx, f: f}
	for i, s := range [...]Side{from, to} {
		c.side[i] = side{t: s.Tree}
		if s.Backend == nil {
			continue
		}
		c.side[i].r = direct.NewReader(s.Backend)
		if l, ok := s.Tree.(image.MetaLoader); ok {
			if err := l.LoadMeta(ctx, s.Backend); err != nil {
				return err
			}
		}
	}
	err := c.pair("/", from.Tree.Root(), to.Tree.Root(), 0)
	if err == errStop {
		return nil
	}
	return err
}

var errStop = errors.New("stop")

const maxDepth = 4096

type side struct {
	t    image.Tree
	r    *direct.Reader // nil without blobs
	dirs map[uint64]bool
	in   image.Inode
}

type comparer struct {
	ctx  context.Context // of the one call
	f    func(Change) bool
	side [2]side
}

func (c *comparer) tell(ch Change) error {
	if !c.f(ch) {
		return errStop
	}
	return c.ctx.Err()
}

// pair compares two inodes of one name, and what is below them.
func (c *comparer) pair(name string, a, b uint64, depth int) error {
	for i, nid := range [...]uint64{a, b} {
		if err := c.side[i].t.Stat(nid, &c.side[i].in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	what, err := c.what()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	dirs := c.side[0].in.Mode&image.TypeMask == image.TypeDirectory && c.side[1].in.Mode&image.TypeMask == image.TypeDirectory
	if len(what) > 0 {
		if err := c.tell(Change{name, Changed, what}); err != nil {
			return err
		}
	}
	if !dirs {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are nested too deep", name)
	}
	return c.dirs(name, a, b, depth)
}

// what names the attributes in which the two inodes differ.
func (c *comparer) what() (what []string, err error) {
	a, b := &c.side[0].in, &c.side[1].in
	add := func(differs bool, name string) {
		if differs {
			what = append(what, name)
		}
	}
	if a.Mode&image.TypeMask != b.Mode&image.TypeMask {
		return []string{"type"}, nil
	}
	typ := a.Mode & image.TypeMask
	add(a.Mode != b.Mode, "mode")
	add(a.UID != b.UID || a.GID != b.GID, "owner")
	add(a.MTime != b.MTime || a.MTimeNsec != b.MTimeNsec, "time")
	add(a.Rdev != b.Rdev, "device")
	var links [2][]byte
	var xattrs [2]string
	for i := range c.side {
		s := &c.side[i]
		if typ == image.TypeSymlink {
			if links[i], err = s.t.Readlink(s.in.NID); err != nil {
				return nil, err
			}
		}
		if xattrs[i], err = s.xattrs(); err != nil {
			return nil, err
		}
	}
	add(!bytes.Equal(links[0], links[1]), "link")
	add(xattrs[0] != xattrs[1], "xattrs")
	if typ != image.TypeRegular {
		return what, nil
	}
	if a.Size != b.Size {
		return append(what, "size", "content"), nil
	}
	same, err := c.sameContent()
	if err == errUnknown {
		return append(what, "content unknown"), nil
	}
	add(!same, "content")
	return what, err
}

// xattrs returns all attributes of the inode in a form that can be compared.
func (s *side) xattrs() (string, error) {
	var names []string
	err := s.t.ListXattr(s.in.NID, func(prefix string, suffix []byte) bool {
		names = append(names, prefix+string(suffix))
		return true
	})
	if err != nil || len(names) == 0 {
		return "", err
	}
	slices.Sort(names)
	var all strings.Builder
	for _, n := range names {
		v, err := s.t.Xattr(s.in.NID, n)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%q=%q ", n, v)
	}
	return all.String(), nil
}

// sameContent compares two regular files of one size.
func (c *comparer) sameContent() (bool, error) {
	size := int64(c.side[0].in.Size)
	if size == 0 {
		return true, nil
	}
	same, known, err := c.sameDigests(size)
	if known || err != nil {
		return same, err
	}
	var sums [2][32]byte
	for i := range c.side {
		s := &c.side[i]
		r := s.r
		if r == nil {
			_, inline, err := s.t.Inline(nil, s.in.NID, 0)
			if err != nil {
				return false, err
			}
			if !inline {
				return false, errUnknown
			}
			r = direct.NewReader(nil) // the data is in the image
		}
		h := sha256.New()
		if err := r.Copy(c.ctx, h, s.t, s.in.NID, size); err != nil {
			return false, err
		}
		sums[i] = [32]byte(h.Sum(nil))
	}
	return sums[0] == sums[1], nil
}

// sameDigests compares by the digests of chunks; known is false if the two
// files are not cut alike, or have chunks without a digest.
func (c *comparer) sameDigests(size int64) (same, known bool, err error) {
	const step = 64 << 20
	var ext [2][]storage.Extent
	same = true
	for off := int64(0); off < size; {
		for i := range c.side {
			s := &c.side[i]
			if ext[i], err = s.t.Extents(ext[i][:0], s.in.NID, off, step); err != nil {
				return false, false, err
			}
		}
		if len(ext[0]) == 0 || len(ext[0]) != len(ext[1]) {
			return false, false, nil
		}
		for i := range ext[0] {
			a, b := &ext[0][i], &ext[1][i]
			if a.Length != b.Length || a.ChunkOffset != b.ChunkOffset || a.Hole() != b.Hole() {
				return false, false, nil
			}
			off += a.Length
			if a.Hole() {
				continue
			}
			if a.Chunk.Flags&b.Chunk.Flags&storage.HasDigest == 0 || a.Chunk.Digest.Algorithm != b.Chunk.Digest.Algorithm {
				return false, false, nil
			}
			whole := int64(a.Chunk.UncompressedSize) == a.Length && int64(b.Chunk.UncompressedSize) == b.Length
			if a.Chunk.Digest != b.Chunk.Digest {
				if !whole {
					return false, false, nil // what the file shows of them may be alike
				}
				same = false
			}
		}
	}
	return same, true, nil
}

type entry struct {
	name string
	nid  uint64
}

// list returns the entries of a directory in order, each directory once.
func (s *side) list(name string, nid uint64) (all []entry, err error) {
	if s.dirs == nil {
		s.dirs = map[uint64]bool{}
	}
	if s.dirs[nid] {
		return nil, fmt.Errorf("%s: a directory with two names", name)
	}
	s.dirs[nid] = true
	err = s.t.ReadDir(nid, 0, func(d image.Dirent) bool {
		if n := string(d.Name); n != "." && n != ".." {
			all = append(all, entry{n, d.NID})
		}
		return true
	})
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all, err
}

func (c *comparer) dirs(name string, a, b uint64, depth int) error {
	olds, err := c.side[0].list(name, a)
	if err != nil {
		return err
	}
	news, err := c.side[1].list(name, b)
	if err != nil {
		return err
	}
	for len(olds) > 0 || len(news) > 0 {
		switch {
		case len(news) == 0 || len(olds) > 0 && olds[0].name < news[0].name:
			err = c.tell(Change{path.Join(name, olds[0].name), Removed, nil})
			olds = olds[1:]
		case len(olds) == 0 || news[0].name < olds[0].name:
			err = c.tell(Change{path.Join(name, news[0].name), Added, nil})
			news = news[1:]
		default:
			err = c.pair(path.Join(name, olds[0].name), olds[0].nid, news[0].nid, depth+1)
			olds, news = olds[1:], news[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}
