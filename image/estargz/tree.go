package estargz

import (
	"cmp"
	"io/fs"
	"maps"
	"slices"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// tree is the merged image; an inode's number is its place in nodes, from 1.
type tree struct {
	nodes    []*node
	blobs    []*storage.Blob
	prefetch []uint64
	chunk    uint32 // size of the largest
}

var _ image.Tree = (*tree)(nil)

// tree numbers the inodes, parents before children and names in order.
func (m *merger) tree() *tree {
	t := &tree{blobs: m.blobs}
	t.number(m.root)
	m.root.parent = 1
	for i := 0; i < len(t.nodes); i++ { // grows meanwhile
		n := t.nodes[i]
		if !n.isDir() {
			continue
		}
		n.Nlink = 2
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			c := n.children[name]
			if c.NID == 0 {
				t.number(c)
			}
			c.Nlink++
			if c.isDir() {
				c.parent = n.NID
				n.Nlink++
			}
			n.entries = append(n.entries, dirent{[]byte(name), c.NID, uint8(c.Mode & image.TypeMask >> 12)})
			n.Size += uint64(len(name)) + 12
		}
		n.children = nil
	}
	for _, n := range t.nodes {
		n.Blocks = (n.Size + 511) / 512
		if n.isDir() {
			n.Blocks = 0
		}
	}
	for _, n := range m.prefetch {
		if n.NID != 0 {
			t.prefetch = append(t.prefetch, n.NID)
		}
	}
	for _, b := range t.blobs {
		t.chunk = max(t.chunk, b.ChunkSize)
	}
	return t
}

func (t *tree) number(n *node) {
	t.nodes = append(t.nodes, n)
	n.NID = uint64(len(t.nodes))
}

func (t *tree) node(nid uint64) (*node, error) {
	if nid == 0 || nid > uint64(len(t.nodes)) {
		return nil, bad("inode %d of %d", nid, len(t.nodes))
	}
	return t.nodes[nid-1], nil
}

func (t *tree) typed(nid uint64, typ uint32, what string) (*node, error) {
	n, err := t.node(nid)
	if err == nil && n.Mode&image.TypeMask != typ {
		err = bad("inode %d is not a %s", nid, what)
	}
	return n, err
}

func (t *tree) Root() uint64 { return 1 }

func (t *tree) Stat(nid uint64, in *image.Inode) error {
	n, err := t.node(nid)
	if err == nil {
		*in = n.Inode
	}
	return err
}

func (t *tree) Lookup(dir uint64, name string) (uint64, error) {
	n, err := t.typed(dir, image.TypeDirectory, "directory")
	if err != nil {
		return 0, err
	}
	switch name {
	case ".":
		return dir, nil
	case "..":
		return n.parent, nil
	}
	i, ok := slices.BinarySearchFunc(n.entries, name, func(d dirent, name string) int {
		switch {
		case string(d.name) == name:
			return 0
		case string(d.name) < name:
			return -1
		}
		return 1
	})
	if !ok {
		return 0, fs.ErrNotExist
	}
	return n.entries[i].nid, nil
}

var dots = [2][]byte{[]byte("."), []byte("..")}

func (t *tree) ReadDir(dir, cookie uint64, f func(image.Dirent) bool) error {
	n, err := t.typed(dir, image.TypeDirectory, "directory")
	if err != nil {
		return err
	}
	for i := cookie; i < uint64(len(n.entries))+2; i++ {
		d := image.Dirent{NID: dir, Next: i + 1, Type: image.TypeDirectory >> 12}
		if i < 2 {
			d.Name = dots[i]
			if i == 1 {
				d.NID = n.parent
			}
		} else {
			e := &n.entries[i-2]
			d.Name, d.NID, d.Type = e.name, e.nid, e.typ
		}
		if !f(d) {
			break
		}
	}
	return nil
}

func (t *tree) Readlink(nid uint64) ([]byte, error) {
	n, err := t.typed(nid, image.TypeSymlink, "symbolic link")
	if err != nil {
		return nil, err
	}
	return n.link, nil
}

func (t *tree) Xattr(nid uint64, name string) ([]byte, error) {
	n, err := t.node(nid)
	if err != nil {
		return nil, err
	}
	for i := range n.xattrs {
		if n.xattrs[i].name == name {
			return n.xattrs[i].value, nil
		}
	}
	return nil, image.ErrNoXattr
}

func (t *tree) ListXattr(nid uint64, f func(prefix string, suffix []byte) bool) error {
	n, err := t.node(nid)
	if err != nil {
		return err
	}
	for i := range n.xattrs {
		if !f(n.xattrs[i].name, nil) {
			break
		}
	}
	return nil
}

func (t *tree) Extents(dst []storage.Extent, nid uint64, off, length int64) ([]storage.Extent, error) {
	n, err := t.typed(nid, image.TypeRegular, "regular file")
	if err != nil || off < 0 || length <= 0 || off >= int64(n.Size) {
		return dst, err
	}
	end := int64(n.Size)
	if length < end-off {
		end = off + length
	}
	i, found := slices.BinarySearchFunc(n.spans, off, func(s span, off int64) int { return cmp.Compare(s.off, off) })
	if !found {
		i--
	}
	for ; off < end; i++ {
		s := &n.spans[i]
		e := storage.Extent{FileOffset: off, Length: min(end, s.off+s.size) - off}
		if s.chunk.Blob != nil {
			e.ChunkOffset, e.Chunk = s.skip+uint32(off-s.off), s.chunk
		}
		dst = append(dst, e)
		off += e.Length
	}
	return dst, nil
}

func (t *tree) Inline(_ []byte, nid uint64, _ int64) (int, bool, error) {
	_, err := t.typed(nid, image.TypeRegular, "regular file")
	return 0, false, err
}

func (t *tree) Blobs() []*storage.Blob { return t.blobs }

func (t *tree) Prefetch() []uint64 { return slices.Clone(t.prefetch) }

func (t *tree) Info() image.Info {
	info := image.Info{
		Format: format, Inodes: uint64(len(t.nodes)), BlockSize: 4096, ChunkSize: t.chunk, Digester: storage.SHA256,
	}
	if len(t.blobs) > 0 {
		info.Compressor = t.blobs[0].Compressor
	}
	return info
}

func (t *tree) Close() error { return nil }
