package build

import (
	"context"
	"errors"
	"iter"
	"path"
	"slices"
	"strings"
)

// dirFile is a regular file of a directory source whose data is to be read.
// There can be millions.
type dirFile struct {
	node *inode
	dir  *dirPlace
	name string
	id   fileID
}

// dirPlace is a directory of the source.
type dirPlace struct {
	path   string // below the source, "" or ending in "/"
	device uint64 // that its files are on
}

// dirFiles is a list of files that grows without being copied.
type dirFiles [][]dirFile

const dirFilesPiece = 1024

func (l *dirFiles) add(f dirFile) {
	if n := len(*l); n == 0 || len((*l)[n-1]) == dirFilesPiece {
		*l = append(*l, make([]dirFile, 0, dirFilesPiece))
	}
	last := &(*l)[len(*l)-1]
	*last = append(*last, f)
}

// all yields the files and their numbers.
func (l dirFiles) all() iter.Seq2[int, *dirFile] {
	return func(yield func(int, *dirFile) bool) {
		i := 0
		for _, piece := range l {
			for at := range piece {
				if !yield(i, &piece[at]) {
					return
				}
				i++
			}
		}
	}
}

func (f *dirFile) path() string { return f.dir.path + f.name }

// fileOrder returns the files in the order in which their data is stored:
// those below the prefetch paths first, path by path, then the others in the
// order in which they were found. The second result is how many come first.
func fileOrder(files dirFiles, prefetch []string) (ordered dirFiles, first int) {
	if len(prefetch) == 0 {
		return files, 0
	}
	rank := func(f *dirFile) int {
		for i, p := range prefetch {
			if below(f.path(), p) {
				return i
			}
		}
		return len(prefetch)
	}
	ranks := make([]dirFiles, len(prefetch)+1)
	for _, f := range files.all() {
		r := rank(f)
		ranks[r].add(*f)
		if r < len(prefetch) {
			first++
		}
	}
	return slices.Concat(ranks...), first
}

// below reports whether p is dir or below it; both are paths in the image,
// with or without a leading "/".
func below(p, dir string) bool {
	p, dir = strings.Trim(path.Clean(p), "/"), strings.Trim(path.Clean(dir), "/")
	if dir == "" || dir == "." {
		return true
	}
	return p == dir || strings.HasPrefix(p, dir+"/")
}

var errNotTar = errors.New("an image whose data is a tar is made of a tar")

// Dir returns a source that is the directory at path. What it holds must not
// change while it is read: a file that does fails the build.
func Dir(path string) Source { return dirSource{path} }

type dirSource struct{ path string }

func (d dirSource) load(ctx context.Context, b *builder) error {
	if b.opt.inPlace() {
		return errNotTar
	}
	b.beginLayer()
	root := b.tree.root
	if b.opt.Parent != nil {
		root = newDir(dirMode)
	}
	files, err := d.scan(ctx, b, root)
	if err != nil {
		return err
	}
	if root != b.tree.root {
		over := overlayer{tree: b.tree, layer: b.layer, whiteouts: b.opt.Whiteouts}
		over.merge(root)
	}
	total := int64(0)
	for _, f := range files.all() {
		total += f.node.size
	}
	b.opt.Total(total)
	files, first := fileOrder(files, b.opt.PrefetchPaths)
	for i, f := range files.all() {
		if i == first && first > 0 {
			if err := b.prefetched(); err != nil {
				return err
			}
		}
		if err := d.feed(b, f); err != nil {
			return err
		}
	}
	return b.endLayer()
}
