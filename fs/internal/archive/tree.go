// Package archive is what the file systems of archives share: a read-only
// tree built from a list of entries whose names nobody has checked, and the
// nodes that show it.
package archive

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits on what an archive may ask for.
const (
	maxName  = 255  // bytes of one name, as Linux has it
	maxPath  = 4096 // bytes of an entry's path or of a link's target
	maxXattr = 64 << 10
)

// File types, the top bits of st_mode.
const (
	typeMask    = 0o170000
	TypeFIFO    = 0o010000
	TypeChar    = 0o020000
	TypeDir     = 0o040000
	TypeBlock   = 0o060000
	TypeRegular = 0o100000
	TypeSymlink = 0o120000
)

// Entry is what an archive says of one member. Only the data's place is
// kept by the archive's own package, which finds it through Index.
type Entry struct {
	Mode     uint32 // type and permission bits
	UID, GID uint32
	Rdev     uint32
	Nlink    uint32 // set by the Builder
	Size     int64
	MTime    time.Time
	Target   string            // of a symbolic link
	Xattrs   map[string]string // full name to value
	Index    int               // the archive's own number of the member, -1 for a directory that is only implied
}

// Tree is the checked tree. It does not change and may be read concurrently.
type Tree struct {
	nodes    []node
	warnings []string
	skipped  int
}

// node is one inode; its number in Tree.nodes is its identity.
type node struct {
	Entry
	children map[string]int32 // of a directory, while and after building
	names    []string         // of a directory, sorted
	parent   int32
}

// root is the number of the root directory.
const root = 0

// Builder makes a Tree. A member with a name that leaves the root, or that
// no file system could have, is left out with a warning. Of two members
// with one name the later stands, as when the archive is unpacked; but a
// directory that has something in it is never replaced by a file.
type Builder struct {
	t Tree
}

// maxWarnings are kept, the others counted.
const maxWarnings = 100

// NewBuilder returns a Builder whose root has the given time.
func NewBuilder(mtime time.Time) *Builder {
	b := &Builder{}
	b.t.nodes = append(b.t.nodes, node{
		Entry:    Entry{Mode: TypeDir | 0o755, MTime: mtime, Index: -1},
		children: map[string]int32{},
	})
	return b
}

// Warn notes that something of a member is left out.
func (b *Builder) Warn(name, why string) {
	if len(b.t.warnings) < maxWarnings {
		b.t.warnings = append(b.t.warnings, fmt.Sprintf("%.200q: %s", name, why))
	}
	b.t.skipped++
}

// Add puts a member into the tree under its path.
func (b *Builder) Add(name string, e Entry) {
	parts, err := split(name)
	if err == nil && e.Mode&typeMask == TypeSymlink && (e.Target == "" || len(e.Target) >= maxPath || strings.ContainsRune(e.Target, 0)) {
		err = errors.New("bad target of a symbolic link")
	}
	if err == nil && e.Size < 0 {
		err = errors.New("negative size")
	}
	if err != nil {
		b.Warn(name, err.Error())
		return
	}
	if e.Mode&typeMask == 0 {
		e.Mode |= TypeRegular
	}
	if len(parts) == 0 {
		if e.Mode&typeMask == TypeDir { // "./" gives the root's attributes
			e.Size = 0
			b.t.nodes[root].Entry = e
		}
		return
	}
	dir, ok := b.dirs(name, parts[:len(parts)-1])
	if !ok {
		return
	}
	b.put(name, dir, parts[len(parts)-1], e)
}

func (b *Builder) put(name string, dir int32, last string, e Entry) {
	isDir := e.Mode&typeMask == TypeDir
	if old, ok := b.t.nodes[dir].children[last]; ok {
		o := &b.t.nodes[old]
		wasDir := o.children != nil
		switch {
		case wasDir && isDir:
			e.Size = 0
			o.Entry = e
			return
		case wasDir && len(o.children) > 0:
			b.Warn(name, "is a directory too, which stays")
			return
		}
		delete(b.t.nodes[dir].children, last)
	}
	n := node{Entry: e, parent: dir}
	if isDir {
		n.Size = 0
		n.children = map[string]int32{}
	}
	b.t.nodes[dir].children[last] = int32(len(b.t.nodes))
	b.t.nodes = append(b.t.nodes, n)
}

// Link puts another name for the member that target names.
func (b *Builder) Link(name, target string) {
	parts, err := split(name)
	if err != nil || len(parts) == 0 {
		b.Warn(name, "bad name of a hard link")
		return
	}
	to, err := split(target)
	if err != nil {
		b.Warn(name, "hard link to a bad name")
		return
	}
	at, ok := b.find(to)
	if !ok || b.t.nodes[at].children != nil {
		b.Warn(name, fmt.Sprintf("hard link to %.200q, which is no file before it in the archive", target))
		return
	}
	dir, ok := b.dirs(name, parts[:len(parts)-1])
	if !ok {
		return
	}
	last := parts[len(parts)-1]
	if old, ok := b.t.nodes[dir].children[last]; ok && b.t.nodes[old].children != nil {
		b.Warn(name, "is a directory too, which stays")
		return
	}
	b.t.nodes[dir].children[last] = at
}

func (b *Builder) find(parts []string) (int32, bool) {
	at := int32(root)
	for _, p := range parts {
		next, ok := b.t.nodes[at].children[p]
		if !ok {
			return 0, false
		}
		at = next
	}
	return at, true
}

// dirs returns the directory with the given path and makes those that the
// archive only implies. A file in its place gives way.
func (b *Builder) dirs(name string, parts []string) (int32, bool) {
	at := int32(root)
	for _, p := range parts {
		next, ok := b.t.nodes[at].children[p]
		if ok && b.t.nodes[next].children == nil {
			b.Warn(name, fmt.Sprintf("%.200q is a file too, which is left out", p))
			ok = false
		}
		if !ok {
			next = int32(len(b.t.nodes))
			b.t.nodes = append(b.t.nodes, node{
				Entry:    Entry{Mode: TypeDir | 0o755, MTime: b.t.nodes[root].MTime, Index: -1},
				children: map[string]int32{},
				parent:   at,
			})
			b.t.nodes[at].children[p] = next
		}
		at = next
	}
	return at, true
}

// split checks a member's path and returns its names. A leading slash is
// dropped, as tar does; ".." is refused wherever it stands.
func split(name string) ([]string, error) {
	switch {
	case len(name) >= maxPath:
		return nil, fmt.Errorf("path of %d bytes", len(name))
	case strings.ContainsRune(name, 0):
		return nil, errors.New("NUL in the name")
	}
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		switch {
		case p == "" || p == ".":
		case p == "..":
			return nil, errors.New("leads out of the root")
		case len(p) > maxName:
			return nil, fmt.Errorf("name of %d bytes", len(p))
		default:
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// Tree finishes the tree. The Builder is not used after it.
func (b *Builder) Tree() *Tree {
	t := &b.t
	for i := range t.nodes {
		t.nodes[i].Nlink = 0
	}
	// Count names from the root: what a later member has replaced is there
	// no more.
	queue := []int32{root}
	for len(queue) > 0 {
		dir := &t.nodes[queue[0]]
		queue = queue[1:]
		dir.names = make([]string, 0, len(dir.children))
		dir.Nlink += 2
		for name, i := range dir.children {
			dir.names = append(dir.names, name)
			if t.nodes[i].children != nil {
				dir.Nlink++
				queue = append(queue, i)
			} else {
				t.nodes[i].Nlink++
			}
		}
		slices.Sort(dir.names)
	}
	return t
}

// Warnings says what of the archive is left out and why: the first few in
// words, and how many in all.
func (t *Tree) Warnings() (first []string, all int) { return t.warnings, t.skipped }

// Len is the number of inodes, the root included.
func (t *Tree) Len() int { return len(t.nodes) }

// Lookup returns the entry of a clean path below the root ("a/b", "." for
// the root).
func (t *Tree) Lookup(name string) (*Entry, bool) {
	b := Builder{t: *t}
	if name = path.Clean(name); name == "." {
		return &t.nodes[root].Entry, true
	}
	i, ok := b.find(strings.Split(name, "/"))
	if !ok {
		return nil, false
	}
	return &t.nodes[i].Entry, true
}

// Walk calls f for every name in the tree but the root's, parents first.
func (t *Tree) Walk(f func(name string, e *Entry)) { t.walk(root, "", f) }

func (t *Tree) walk(dir int32, prefix string, f func(string, *Entry)) {
	n := &t.nodes[dir]
	for _, name := range n.names {
		i := n.children[name]
		f(prefix+name, &t.nodes[i].Entry)
		if t.nodes[i].children != nil {
			t.walk(i, prefix+name+"/", f)
		}
	}
}
