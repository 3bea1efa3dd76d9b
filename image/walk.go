package image

import (
	"errors"
	"io/fs"
	"strings"
)

// Type bits of Inode.Mode, as in st_mode.
const (
	TypeMask      = 0o170000
	TypeRegular   = 0o100000
	TypeDirectory = 0o040000
	TypeSymlink   = 0o120000
)

// Find returns the inode at path, which begins at the root of the image.
// Symbolic links in it are not followed, and ".." has no meaning.
func Find(t Tree, path string) (uint64, error) {
	nid := t.Root()
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		var err error
		if nid, err = t.Lookup(nid, name); err != nil {
			return 0, err
		}
	}
	return nid, nil
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// maxDepth is how deep directories may be nested: twice what a path of 4096
// bytes can name.
const maxDepth = 4096

// Walk calls f with the path and number of each inode, the root being "/",
// parents first, until f returns false. It uses memory for one directory per
// level; an image whose directories form a cycle ends it with an error.
func Walk(t Tree, f func(path string, nid uint64, typ uint8) bool) error {
	if !f("/", t.Root(), TypeDirectory>>12) {
		return nil
	}
	err := walk(t, "", t.Root(), 0, f)
	if err == errStop {
		return nil
	}
	return err
}

func walk(t Tree, path string, dir uint64, depth int, f func(string, uint64, uint8) bool) error {
	if depth > maxDepth {
		return &FormatError{Format: t.Info().Format, Offset: -1, What: "directories nested too deep, or in a cycle"}
	}
	type sub struct {
		path string
		nid  uint64
	}
	var dirs []sub
	stopped := false
	err := t.ReadDir(dir, 0, func(d Dirent) bool {
		name := string(d.Name)
		if name == "." || name == ".." {
			return true
		}
		p := path + "/" + name
		if d.Type == TypeDirectory>>12 {
			dirs = append(dirs, sub{p, d.NID})
		}
		stopped = !f(p, d.NID, d.Type)
		return !stopped
	})
	if err != nil {
		return err
	}
	if stopped {
		return errStop
	}
	for _, s := range dirs {
		if err := walk(t, s.path, s.nid, depth+1, f); err != nil {
			return err
		}
	}
	return nil
}

// PathOf returns a path of nid, of which there are several if it has hard
// links; fs.ErrNotExist if none. It looks at the whole image.
func PathOf(t Tree, nid uint64) (string, error) {
	found := ""
	err := Walk(t, func(path string, n uint64, _ uint8) bool {
		if n == nid {
			found = path
		}
		return found == ""
	})
	if err == nil && found == "" {
		err = fs.ErrNotExist
	}
	return found, err
}
