// Package imagetest has what tests of image formats share: a tree written
// down as text, in a form that a real file system gives as well, and checks
// that hold for any [image.Tree].
package imagetest

import (
	"fmt"
	"path"

	"github.com/sluicefs/sluice/image"
)

// Entry is one name in an image.
type Entry struct {
	Path string // from "/"
	image.Inode
	Link   string            // target of a symbolic link
	Xattrs map[string]string // full name to value
}

// Walk calls f for the root and all entries below it, in the order of the
// image, directories before what they hold. It ends at the first error and
// after limit entries, which is an error too.
func Walk(t image.Tree, limit int, f func(*Entry) error) error {
	w := walker{t, limit, f}
	return w.walk("/", t.Root())
}

type walker struct {
	t     image.Tree
	limit int
	f     func(*Entry) error
}

func (w *walker) walk(name string, nid uint64) error {
	if w.limit--; w.limit < 0 {
		return fmt.Errorf("%s: more entries than expected", name)
	}
	e := Entry{Path: name}
	if err := ReadEntry(w.t, nid, &e); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.f(&e); err != nil {
		return err
	}
	if e.Mode&0o170000 != 0o040000 {
		return nil
	}
	type child struct {
		name string
		nid  uint64
	}
	var children []child
	err := w.t.ReadDir(nid, 0, func(d image.Dirent) bool {
		if string(d.Name) != "." && string(d.Name) != ".." {
			children = append(children, child{string(d.Name), d.NID})
		}
		return len(children) <= w.limit
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, c := range children {
		if err := w.walk(path.Join(name, c.name), c.nid); err != nil {
			return err
		}
	}
	return nil
}

// ReadEntry fills in e, but for its path, from the inode nid.
func ReadEntry(t image.Tree, nid uint64, e *Entry) (err error) {
	if err := t.Stat(nid, &e.Inode); err != nil {
		return err
	}
	if e.Mode&0o170000 == 0o120000 {
		target, err := t.Readlink(nid)
		if err != nil {
			return err
		}
		e.Link = string(target)
	}
	e.Xattrs = map[string]string{}
	err = t.ListXattr(nid, func(prefix string, suffix []byte) bool {
		e.Xattrs[prefix+string(suffix)] = ""
		return true
	})
	for name := range e.Xattrs {
		if err != nil {
			return err
		}
		var value []byte
		value, err = t.Xattr(nid, name)
		e.Xattrs[name] = string(value)
	}
	return err
}
