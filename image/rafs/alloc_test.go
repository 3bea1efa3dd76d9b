package rafs_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

func TestLookUpsDoNotAllocate(t *testing.T) {
	for _, tt := range [...]struct{ file, name string }{
		{"rafs-v6-2.2.boot", "lib.rs"},
		{"v5-blake3-none-ext.boot", "hardlink-test"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			tree, err := rafs.Open(filepath.Join("testdata", tt.file), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			l := newLister(tree)
			all := func() {
				if err := l.list(tree.Root()); err != nil {
					t.Fatal(err)
				}
				if _, err := tree.Lookup(tree.Root(), tt.name); err != nil {
					t.Fatal(err)
				}
				if _, err := tree.Lookup(tree.Root(), "absent"); err == nil {
					t.Fatal("found a name that is not there")
				}
				if _, err := tree.Xattr(tree.Root(), "user.x"); err != image.ErrNoXattr {
					t.Fatal(err)
				}
			}
			all()
			if n := testing.AllocsPerRun(20, all); n != 0 {
				t.Errorf("allocations: got %v, want 0", n)
			}
		})
	}
}

// lister reads the attributes, link targets and extents of the children of a
// directory; it is made once, so that the test sees what the tree allocates.
type lister struct {
	tree image.Tree
	in   image.Inode
	ext  []storage.Extent
	err  error
	each func(image.Dirent) bool
}

func newLister(t image.Tree) *lister {
	l := &lister{tree: t, ext: make([]storage.Extent, 0, 8)}
	l.each = l.child
	return l
}

func (l *lister) list(dir uint64) error {
	l.err = nil
	return errors.Join(l.tree.ReadDir(dir, 0, l.each), l.err)
}

func (l *lister) child(d image.Dirent) bool {
	if l.err = l.tree.Stat(d.NID, &l.in); l.err != nil {
		return false
	}
	switch l.in.Mode & 0o170000 {
	case 0o100000:
		l.ext, l.err = l.tree.Extents(l.ext[:0], d.NID, 0, int64(l.in.Size))
	case 0o120000:
		_, l.err = l.tree.Readlink(d.NID)
	}
	return l.err == nil
}
