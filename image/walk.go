package image

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Type bits of Inode.Mode, as in st_mode.
const (
	TypeMask      = 0o170000
	TypeFIFO      = 0o010000
	TypeChar      = 0o020000
	TypeDirectory = 0o040000
	TypeBlock     = 0o060000
	TypeRegular   = 0o100000
	TypeSymlink   = 0o120000
	TypeSocket    = 0o140000
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
// parents first, until f returns false. It uses memory for the numbers of the
// directories; one that is met twice, as in a cycle, ends it with an error.
func Walk(t Tree, f func(path string, nid uint64, typ uint8) bool) error {
	if !f("/", t.Root(), TypeDirectory>>12) {
		return nil
	}
	return WalkBelow(t, t.Root(), f)
}

// WalkBelow is Walk for what lies below the directory dir, without dir
// itself; paths begin there.
func WalkBelow(t Tree, dir uint64, f func(path string, nid uint64, typ uint8) bool) error {
	w := walker{t, map[uint64]bool{dir: true}, f}
	err := w.walk("", dir, 0)
	if err == errStop {
		return nil
	}
	return err
}

type walker struct {
	t    Tree
	dirs map[uint64]bool // that have been met
	f    func(path string, nid uint64, typ uint8) bool
}

func (w *walker) walk(path string, dir uint64, depth int) error {
	if depth > maxDepth {
		return &FormatError{Format: w.t.Info().Format, Offset: -1, What: "directories nested too deep"}
	}
	type sub struct {
		path string
		nid  uint64
	}
	var dirs []sub
	stopped := false
	err := w.t.ReadDir(dir, 0, func(d Dirent) bool {
		name := string(d.Name)
		if name == "." || name == ".." {
			return true
		}
		p := path + "/" + name
		if d.Type == TypeDirectory>>12 {
			dirs = append(dirs, sub{p, d.NID})
		}
		stopped = !w.f(p, d.NID, d.Type)
		return !stopped
	})
	if err != nil {
		return err
	}
	if stopped {
		return errStop
	}
	for _, s := range dirs {
		if w.dirs[s.nid] {
			return &FormatError{
				Format: w.t.Info().Format, Offset: -1,
				What: fmt.Sprintf("directory %d has two names, one of them %s", s.nid, s.path),
			}
		}
		w.dirs[s.nid] = true
		if err := w.walk(s.path, s.nid, depth+1); err != nil {
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
