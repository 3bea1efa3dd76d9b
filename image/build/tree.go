package build

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/sluicefs/sluice/image/erofs"
)

// Limits of a tree that both RAFS versions share.
const (
	maxName       = erofs.MaxNameLen
	maxTarget     = erofs.MaxSymlinkLen
	maxXattrValue = 65535
)

// holeChunk in inode.chunks is a chunk without stored bytes.
const holeChunk = ^uint32(0)

// inode is one file of the tree under construction. Names are in the
// directories that hold it, so a hard link is the same inode twice. A source
// can have millions of them: what few kinds of files need lies elsewhere, so
// that an inode takes 80 bytes.
type inode struct {
	size      int64 // regular files: bytes
	mtime     int64
	xattrs    *xattrSet // nil: none
	own       *extra    // of a directory or symlink; see inode.extra
	list      *[]uint32 // of a regular file with several chunks; see inode.chunks
	mode      uint32    // as st_mode
	uid, gid  uint32
	rdev      uint32 // Linux "new encoding"
	mtimeNsec uint32
	layer     int32 // topmost layer that had it or something below it

	one [1]uint32 // the chunk of a regular file that has one

	// What the layout passes set.
	links uint32 // names that it has; for a directory as st_nlink
	ino   uint32 // sequential number, 1 for the root
	off   uint32 // v6: place relative to the start of the inodes
}

// extra is what only directories and symlinks have.
type extra struct {
	target string // of a symlink
	dirNames
	parent *inode // of a directory, once the layout is made
	data   uint64 // v6: place of the data blocks
}

// extra returns the fields that n, a directory or symlink, has of its own.
func (n *inode) extra() *extra {
	if n.own == nil {
		n.own = new(extra)
	}
	return n.own
}

// target is where a symlink leads.
func (n *inode) target() string {
	if n.own == nil {
		return ""
	}
	return n.own.target
}

// children are the entries of a directory, by name once the tree is finished.
// Of other files there are none.
func (n *inode) children() []entry {
	if n.own == nil {
		return nil
	}
	return n.own.list
}

// single is the list of all files that have one chunk, which is in the inode.
var single = new([]uint32)

// chunks are the positions in store.chunks of what a regular file consists
// of, or holeChunk. They are the inode's own: a change is kept.
func (n *inode) chunks() []uint32 {
	switch n.list {
	case nil:
		return nil
	case single:
		return n.one[:]
	}
	return *n.list
}

// setChunks gives n its chunks.
func (n *inode) setChunks(list []uint32) {
	switch len(list) {
	case 0:
		n.list = nil
	case 1:
		n.list, n.one[0] = single, list[0]
	default:
		n.list = &list
	}
}

// makeChunks gives n room for that many chunks, and returns it.
func (n *inode) makeChunks(count int64) []uint32 {
	if count > 1 {
		list := make([]uint32, count)
		n.list = &list
	} else if count == 1 {
		n.list = single
	}
	return n.chunks()
}

func (n *inode) kind() uint32    { return n.mode & syscall.S_IFMT }
func (n *inode) isDir() bool     { return n.kind() == syscall.S_IFDIR }
func (n *inode) isRegular() bool { return n.kind() == syscall.S_IFREG }
func (n *inode) isSymlink() bool { return n.kind() == syscall.S_IFLNK }

func (n *inode) isDevice() bool {
	return n.kind() == syscall.S_IFCHR || n.kind() == syscall.S_IFBLK
}

// xattr is an extended attribute with its full name.
type xattr struct{ name, value string }

// xattrSet is a sorted set of attributes. Equal sets of a tree are one value.
type xattrSet struct {
	list []xattr
	// v6Size is the bytes of the area behind a v6 inode.
	v6Size uint32
}

// get returns the value of the attribute, and whether it is there.
func (s *xattrSet) get(name string) (string, bool) {
	if s == nil {
		return "", false
	}
	for _, x := range s.list {
		if x.name == name {
			return x.value, true
		}
	}
	return "", false
}

// tree is the names and attributes of an image under construction.
type tree struct {
	root      *inode
	xattrSets map[string]*xattrSet
	spelling  spelling
	warn      func(string)
}

// dirMode is the mode of a directory that a source implies but does not have.
const dirMode = syscall.S_IFDIR | 0o755

func newTree(warn func(string)) *tree {
	return &tree{root: newDir(dirMode), xattrSets: map[string]*xattrSet{}, warn: warn}
}

func newDir(mode uint32) *inode {
	return &inode{mode: mode}
}

// setXattrs gives n the attributes, sorted and shared with other inodes that
// have the same. An attribute that the format has no place for is left out
// with a warning; path is for messages.
func (t *tree) setXattrs(n *inode, list []xattr, path string) error {
	kept := make([]xattr, 0, len(list))
	for _, x := range list {
		_, rest, ok := erofs.SplitXattr(x.name)
		if !ok {
			t.warn(fmt.Sprintf("%s: extended attribute %q is left out: its namespace can not be stored", path, x.name))
			continue
		}
		if len(rest) > 255 || len(x.value) > maxXattrValue {
			return &Error{Op: "read", Path: path, Err: fmt.Errorf("extended attribute %q is too large: %d bytes", x.name, len(x.value))}
		}
		kept = append(kept, x)
	}
	slices.SortFunc(kept, func(a, b xattr) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(kept); i++ {
		if kept[i].name == kept[i-1].name {
			return &Error{Op: "read", Path: path, Err: fmt.Errorf("extended attribute %q stands twice", kept[i].name)}
		}
	}
	n.xattrs = t.shared(kept)
	if n.xattrs != nil && n.xattrs.count() > 65535 {
		return &Error{Op: "read", Path: path, Err: fmt.Errorf("%d bytes of extended attributes are too many", n.xattrs.v6Size)}
	}
	return nil
}

// count is what a v6 inode says of the size of the attributes.
func (s *xattrSet) count() uint32 {
	return (s.v6Size-erofs.XattrHeaderSize)/erofs.XattrEntrySize + 1
}

// shared returns the set of the sorted attributes, nil if there are none.
func (t *tree) shared(sorted []xattr) *xattrSet {
	if len(sorted) == 0 {
		return nil
	}
	var key strings.Builder
	for _, x := range sorted {
		fmt.Fprintf(&key, "%d %d %s%s", len(x.name), len(x.value), x.name, x.value)
	}
	set := t.xattrSets[key.String()]
	if set == nil {
		set = &xattrSet{list: sorted, v6Size: erofs.XattrHeaderSize}
		for _, x := range sorted {
			_, rest, _ := erofs.SplitXattr(x.name)
			set.v6Size += align32(erofs.XattrEntrySize+uint32(len(rest)+len(x.value)), 4)
		}
		t.xattrSets[key.String()] = set
	}
	return set
}

// finish sorts the directories, counts links and numbers the inodes: root 1,
// then the children of a directory one after another, then those of its
// directories in the same order. It returns the inodes by number (a hard link
// counts once) and the number of names, the root being one.
func (t *tree) finish() (inodes []*inode, names uint64) {
	t.root.links = 0
	inodes = make([]*inode, 0, 1+clearLinks(t.root))
	t.root.ino = 1
	t.root.links = 2
	inodes = append(inodes, t.root)
	names = 1
	var number func(dir *inode)
	number = func(dir *inode) {
		dir.extra().sort()
		for _, e := range dir.children() {
			names++
			if e.node.links == 0 {
				inodes = append(inodes, e.node)
				e.node.ino = uint32(len(inodes))
			}
			e.node.links++
			if e.node.isDir() {
				e.node.links = 2
				dir.links++
			}
		}
		for _, e := range dir.children() {
			if e.node.isDir() {
				number(e.node)
			}
		}
	}
	number(t.root)
	return inodes, names
}

// clearLinks forgets the links of all that is below dir, and returns how many
// names that has.
func clearLinks(dir *inode) (names int) {
	for _, e := range dir.children() {
		if e.node == nil {
			continue
		}
		names++
		e.node.links = 0
		if e.node.isDir() {
			names += clearLinks(e.node)
		}
	}
	return names
}

// walk calls f for every name below dir in the order of the numbers: the
// names of a directory first, then its directories. path has no leading "/".
func (t *tree) walk(f func(path string, n *inode) error) error {
	var rec func(dir *inode, prefix string) error
	rec = func(dir *inode, prefix string) error {
		for _, e := range dir.children() {
			if err := f(prefix+e.name, e.node); err != nil {
				return err
			}
		}
		for _, e := range dir.children() {
			if e.node.isDir() {
				if err := rec(e.node, prefix+e.name+"/"); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return rec(t.root, "")
}

func align32(n, to uint32) uint32 { return (n + to - 1) &^ (to - 1) }
func align64(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
