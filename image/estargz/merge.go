package estargz

import (
	"slices"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Names in a layer that are not files of the image.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	landmark       = ".prefetch.landmark"
	noLandmark     = ".no.prefetch.landmark"
)

// node is an inode. Its children are used while layers are merged; the tree
// has them in order in entries.
type node struct {
	image.Inode
	link     []byte
	xattrs   []xattr // by name
	spans    []span
	children map[string]*node
	entries  []dirent
	parent   uint64 // of a directory
	layer    int    // of the last layer that had it, from 1; 0 for the root as it begins
}

type xattr struct {
	name  string
	value []byte
}

type dirent struct {
	name []byte
	nid  uint64
	typ  uint8
}

func (n *node) isDir() bool { return n.Mode&image.TypeMask == image.TypeDirectory }

func newDir() *node {
	return &node{Inode: image.Inode{Mode: image.TypeDirectory | 0o755}, children: map[string]*node{}}
}

// merger puts layers on top of each other.
type merger struct {
	root     *node
	blobs    []*storage.Blob
	prefetch []*node
	current  int // layer, from 1
	made     int // directories that no layer has an entry of
}

// maxMade bounds the directories that are made up: a few bytes of a path
// would otherwise cost an inode each.
const maxMade = 1 << 20

func newMerger() *merger { return &merger{root: newDir()} }

// content says which chunks have the bytes of a file.
type content interface {
	// file returns those of the regular file that entries begin with, and how
	// many entries it takes.
	file(entries []tocEntry) (spans []span, n int, err error)
}

// layer puts the layer with those entries on top.
func (m *merger) layer(entries []tocEntry, k content) error {
	m.current++
	for i := range entries {
		if err := m.whiteout(entries[i].Name); err != nil {
			return err
		}
	}
	prefetchEnd := int64(0)
	for i := range entries {
		if entries[i].Name == landmark {
			prefetchEnd = entries[i].Offset
		}
	}
	for len(entries) > 0 {
		n := 1
		if e := &entries[0]; e.Type != "chunk" {
			var added *node
			var err error
			if added, n, err = m.add(k, entries); err != nil {
				return err
			}
			if added != nil && len(added.spans) > 0 && e.Offset < prefetchEnd {
				m.prefetch = append(m.prefetch, added)
			}
		}
		entries = entries[n:]
	}
	return nil
}

// whiteout removes what is below the current layer if name says so.
func (m *merger) whiteout(name string) error {
	parts, ok := components(name)
	if !ok {
		return bad("path %q leads out of the layer", name)
	}
	if len(parts) == 0 || !strings.HasPrefix(parts[len(parts)-1], whiteoutPrefix) {
		return nil
	}
	dir := m.root
	for _, p := range parts[:len(parts)-1] {
		if dir = dir.children[p]; dir == nil {
			return nil
		}
	}
	if last := parts[len(parts)-1]; last == opaqueName {
		clear(dir.children)
	} else {
		delete(dir.children, last[len(whiteoutPrefix):])
	}
	return nil
}

// parent returns the directory of the last part, and makes what is missing on
// the way. What is no directory, also a symbolic link, gives way to one.
func (m *merger) parent(parts []string) (*node, error) {
	dir := m.root
	for _, p := range parts[:len(parts)-1] {
		next := dir.children[p]
		if next == nil || !next.isDir() {
			if m.made++; m.made > maxMade {
				return nil, bad("more than %d directories have no entry", maxMade)
			}
			next = newDir()
			next.layer = m.current
			dir.children[p] = next
		}
		dir = next
	}
	return dir, nil
}

// add adds the entry that entries begin with. It returns the inode, nil if
// the entry is no file of the image, and how many entries it takes.
func (m *merger) add(k content, entries []tocEntry) (*node, int, error) {
	e := &entries[0]
	parts, ok := components(e.Name)
	if !ok {
		return nil, 1, bad("path %q leads out of the layer", e.Name)
	}
	if len(parts) > 0 && strings.HasPrefix(parts[len(parts)-1], whiteoutPrefix) {
		return nil, 1, nil
	}
	if len(parts) == 1 && (parts[0] == landmark || parts[0] == noLandmark || parts[0] == tocName) {
		return nil, 1, nil
	}
	if e.Type == "hardlink" {
		return nil, 1, m.link(parts, e)
	}
	n, taken, err := m.inode(k, entries)
	if err != nil {
		return nil, taken, err
	}
	if len(parts) == 0 {
		if !n.isDir() {
			return nil, taken, bad("the root is no directory")
		}
		n.children = m.root.children
		m.root = n
		return n, taken, nil
	}
	dir, err := m.parent(parts)
	if err != nil {
		return nil, taken, err
	}
	name := parts[len(parts)-1]
	if old := dir.children[name]; old != nil && old.isDir() && n.isDir() {
		n.children = old.children
	}
	dir.children[name] = n
	return n, taken, nil
}

// link gives an inode one more name.
func (m *merger) link(parts []string, e *tocEntry) error {
	target, ok := components(e.LinkName)
	if !ok || len(target) == 0 || len(parts) == 0 {
		return bad("hard link %q to %q", e.Name, e.LinkName)
	}
	n := m.root
	for _, p := range target {
		if n = n.children[p]; n == nil {
			return bad("hard link %q to %q, which is not there", e.Name, e.LinkName)
		}
	}
	if n.isDir() {
		return bad("hard link %q to the directory %q", e.Name, e.LinkName)
	}
	dir, err := m.parent(parts)
	if err != nil {
		return err
	}
	dir.children[parts[len(parts)-1]] = n
	return nil
}

var types = map[string]uint32{
	"dir": image.TypeDirectory, "reg": image.TypeRegular, "symlink": image.TypeSymlink,
	"char": image.TypeChar, "block": image.TypeBlock, "fifo": image.TypeFIFO,
}

// inode makes the inode of the entry that entries begin with.
func (m *merger) inode(k content, entries []tocEntry) (n *node, taken int, err error) {
	e := &entries[0]
	typ, ok := types[e.Type]
	if !ok {
		return nil, 1, bad("%q has type %q", e.Name, e.Type)
	}
	n = &node{layer: m.current, Inode: image.Inode{Mode: typ | e.Mode&0o7777, UID: e.UID, GID: e.GID}}
	n.MTime, n.MTimeNsec = parseTime(e.ModTime)
	taken = 1
	switch typ {
	case image.TypeDirectory:
		n.children = map[string]*node{}
	case image.TypeRegular:
		n.Size = uint64(max(e.Size, 0))
		if n.spans, taken, err = k.file(entries); err != nil {
			return nil, taken, err
		}
	case image.TypeSymlink:
		if e.LinkName == "" || len(e.LinkName) > 4096 || strings.IndexByte(e.LinkName, 0) >= 0 {
			return nil, 1, bad("symbolic link %q to %q", e.Name, e.LinkName)
		}
		n.link = []byte(e.LinkName)
		n.Size = uint64(len(n.link))
	case image.TypeChar, image.TypeBlock:
		n.Rdev = e.DevMinor&0xff | e.DevMajor&0xfff<<8 | e.DevMinor&^0xff<<12
	}
	for name, value := range e.Xattrs {
		if name == "" || len(name) > 255 || len(value) > 65536 || strings.IndexByte(name, 0) >= 0 {
			return nil, taken, bad("%q: attribute %q of %d bytes", e.Name, name, len(value))
		}
		n.xattrs = append(n.xattrs, xattr{name, value})
	}
	slices.SortFunc(n.xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return n, taken, nil
}
