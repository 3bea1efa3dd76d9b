package build

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
)

// dirFile is a regular file of a directory source whose data is to be read.
type dirFile struct {
	node *inode
	dir  string // path of its directory below the source, "" or ending in "/"
	name string
	id   fileID
}

func (f *dirFile) path() string { return f.dir + f.name }

// fileOrder returns the files in the order in which their data is stored:
// those below the prefetch paths first, path by path, then the others in the
// order in which they were found. The second result is how many come first.
func fileOrder(files []dirFile, prefetch []string) ([]dirFile, int) {
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
	ranks := make([][]dirFile, len(prefetch)+1)
	for _, f := range files {
		r := rank(&f)
		ranks[r] = append(ranks[r], f)
	}
	last := ranks[len(prefetch)]
	return slices.Concat(ranks...), len(files) - len(last)
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
	files, err := d.scan(ctx, b)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, f := range files {
		total += f.node.size
	}
	b.opt.Total(total)
	files, first := fileOrder(files, b.opt.PrefetchPaths)
	for i := range files {
		if i == first && first > 0 {
			if err := b.prefetched(); err != nil {
				return err
			}
		}
		if err := d.feed(b, &files[i]); err != nil {
			return err
		}
	}
	return b.endLayer()
}
