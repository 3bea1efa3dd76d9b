package build

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Names that mark what an OCI layer removes.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // aufs keeps such names for itself
	whiteoutOpaque = ".wh..wh..opq"
)

// overlayer puts files of one layer on top of a tree.
type overlayer struct {
	*tree
	layer     int32
	whiteouts Whiteouts
}

// splitPath cuts a path of an archive into its elements. An element ".." is
// an error: nothing that is honest needs it.
func splitPath(p string) ([]string, error) {
	var out []string
	for e := range strings.SplitSeq(p, "/") {
		switch {
		case e == "" || e == ".":
		case e == "..":
			return nil, errors.New(`has a ".." in its path`)
		case len(e) > maxName:
			return nil, fmt.Errorf("has a name of %d bytes, the limit is %d", len(e), maxName)
		case strings.IndexByte(e, 0) >= 0:
			return nil, errors.New("has a NUL in its path")
		default:
			out = append(out, e)
		}
	}
	return out, nil
}

// maxFollow is how many symbolic links a path may lead through.
const maxFollow = 255

// dir returns the directory at that path and marks it as touched by this
// layer. Directories that are not there are made; symbolic links on the way
// are followed within the tree, as one who unpacks does.
func (o *overlayer) dir(parts []string) (*inode, error) {
	stack := []*inode{o.root}
	todo := parts
	follow := 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		dir := stack[len(stack)-1]
		dir.layer = o.layer
		if name == ".." {
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		n := dir.extra().get(name)
		switch {
		case n == nil:
			n = newDir(dirMode)
			dir.own.set(o.spelling.keep(name), n)
		case n.isSymlink():
			if follow++; follow > maxFollow {
				return nil, errors.New("lies behind too many symbolic links")
			}
			if strings.HasPrefix(n.target(), "/") {
				stack = stack[:1]
			}
			var link []string
			for e := range strings.SplitSeq(n.target(), "/") {
				if e != "" && e != "." {
					link = append(link, e)
				}
			}
			if len(link)+len(todo) > 2*maxTarget {
				return nil, errors.New("lies behind too many symbolic links")
			}
			todo = append(link, todo...)
			continue
		case !n.isDir():
			// What was a file becomes a directory with what the layer has below.
			n = newDir(dirMode)
			dir.own.set(name, n)
		}
		if len(stack) > maxDepth {
			return nil, fmt.Errorf("lies more than %d directories deep", maxDepth)
		}
		stack = append(stack, n)
	}
	dir := stack[len(stack)-1]
	dir.layer = o.layer
	return dir, nil
}

// put places n at the path, in place of what is there; a directory takes over
// what is in the one before. What is a whiteout is applied instead.
func (o *overlayer) put(p string, n *inode) error {
	parts, err := splitPath(p)
	if err != nil {
		return err
	}
	n.layer = o.layer
	if len(parts) == 0 {
		if !n.isDir() {
			return errors.New("is the root, but not a directory")
		}
		o.place(nil, "", n)
		return nil
	}
	dir, err := o.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	o.place(dir, parts[len(parts)-1], n)
	return nil
}

// place puts n into the directory dir; dir nil means that n is the root.
func (o *overlayer) place(dir *inode, name string, n *inode) {
	if dir != nil && o.whiteout(dir, name, n) {
		return
	}
	old := o.root
	if dir != nil {
		old = dir.extra().get(name)
	}
	hides := o.whiteouts == WhiteoutsOverlayfs && n.isDir() && opaque(n)
	if hides {
		o.clearOpaque(n)
	}
	if old == nil || !old.isDir() || !n.isDir() {
		// The name is a part of the path, which it must not keep alive.
		dir.own.set(o.spelling.keep(name), n)
		return
	}
	if hides {
		hideLower(old, o.layer)
	}
	old.mode, old.uid, old.gid, old.mtime, old.mtimeNsec = n.mode, n.uid, n.gid, n.mtime, n.mtimeNsec
	old.xattrs, old.layer = n.xattrs, o.layer
}

// whiteout applies n if it is a mark that removes something.
func (o *overlayer) whiteout(dir *inode, name string, n *inode) bool {
	switch o.whiteouts {
	case WhiteoutsOCI:
		target, ok := strings.CutPrefix(name, whiteoutPrefix)
		switch {
		case !ok:
			return false
		case name == whiteoutOpaque:
			hideLower(dir, o.layer)
		case !strings.HasPrefix(name, whiteoutMeta):
			hideName(dir, target, o.layer)
		}
		return true
	case WhiteoutsOverlayfs:
		if n.kind() == syscall.S_IFCHR && n.rdev == 0 {
			hideName(dir, name, o.layer)
			return true
		}
	}
	return false
}

// opaqueNames are the attributes by which overlayfs marks a directory that
// hides what lower layers have in it.
var opaqueNames = []string{"trusted.overlay.opaque", "user.overlay.opaque"}

func opaque(n *inode) bool {
	for _, name := range opaqueNames {
		if v, ok := n.xattrs.get(name); ok && v == "y" {
			return true
		}
	}
	return false
}

// clearOpaque takes the mark off n: it says nothing in an image of one layer.
func (o *overlayer) clearOpaque(n *inode) {
	rest := slices.DeleteFunc(slices.Clone(n.xattrs.list), func(x xattr) bool { return slices.Contains(opaqueNames, x.name) })
	n.xattrs = o.shared(rest)
}

// hideName removes from dir what layers below that one have under the name.
func hideName(dir *inode, name string, layer int32) {
	n := dir.extra().get(name)
	switch {
	case n == nil:
	case n.layer < layer:
		dir.own.remove(name)
	case n.isDir():
		hideLower(n, layer)
	}
}

// hideLower removes from dir all that is of layers below that one.
func hideLower(dir *inode, layer int32) {
	for _, e := range dir.children() {
		hideName(dir, e.name, layer)
	}
}

// link gives the file at the path target the further name p.
func (o *overlayer) link(p, target string) error {
	parts, err := splitPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %s, which %w", target, err)
	}
	if len(parts) == 0 {
		return errors.New("hard link to the root")
	}
	dir, err := o.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	n := dir.extra().get(parts[len(parts)-1])
	switch {
	case n == nil:
		return fmt.Errorf("hard link to %s, which is not there", target)
	case n.isDir():
		return fmt.Errorf("hard link to the directory %s", path.Clean(target))
	}
	return o.put(p, n)
}

// merge puts the whole tree below upper, from whose directories nothing was
// taken away, on top of the tree.
func (o *overlayer) merge(upper *inode) {
	o.stamp(upper)
	o.place(nil, "", upper)
	o.mergeDir(o.root, upper)
}

// stamp marks all of upper as being of this layer.
func (o *overlayer) stamp(n *inode) {
	n.layer = o.layer
	for _, e := range n.children() {
		o.stamp(e.node)
	}
}

func (o *overlayer) mergeDir(dir, upper *inode) {
	// Whiteouts first: the order must not matter.
	for _, pass := range [...]bool{true, false} {
		for _, e := range upper.children() {
			name, n := e.name, e.node
			if mark := o.marks(name, n); mark != pass {
				continue
			}
			if pass {
				o.whiteout(dir, name, n)
				continue
			}
			old := dir.extra().get(name)
			if n.isDir() {
				below := &extra{dirNames: dirNames{list: n.children()}}
				if old == nil || !old.isDir() {
					n.extra().dirNames = dirNames{}
				}
				o.place(dir, name, n)
				o.mergeDir(dir.own.get(name), &inode{mode: n.mode, own: below})
				continue
			}
			o.place(dir, name, n)
		}
	}
}

// marks reports whether n under that name is a whiteout.
func (o *overlayer) marks(name string, n *inode) bool {
	switch o.whiteouts {
	case WhiteoutsOCI:
		return strings.HasPrefix(name, whiteoutPrefix)
	case WhiteoutsOverlayfs:
		return n.kind() == syscall.S_IFCHR && n.rdev == 0
	}
	return false
}
