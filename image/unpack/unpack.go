// Package unpack takes the files out of an image again, to a tar or to a
// directory, verifying every chunk on the way.
//
// The image is hostile: nothing is created outside the target, no symbolic
// link that the image brings is followed, and a failed run leaves nothing
// under the target's name.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/internal/sys"
	"github.com/sluicefs/sluice/storage"
)

// Options say how to unpack. The zero value is the default.
type Options struct {
	Backend   storage.Backend  // of the blobs; may be nil for an image that has none
	Whiteouts bool             // to a tar: overlayfs's whiteouts become those of OCI layers
	NoOwner   bool             // to a directory: all belongs to the caller; devices are left out
	Progress  func(done int64) // called with the bytes of files done; may be nil
}

// Result counts what was unpacked.
type Result struct {
	Entries uint64   `json:"entries"` // names, without the root
	Bytes   int64    `json:"bytes"`   // of file contents
	Skipped []string `json:"skipped,omitempty"`
}

// unpacker is the part of a run that both kinds of target share.
type unpacker struct {
	ctx    context.Context // of the one call
	t      image.Tree
	o      Options
	r      *direct.Reader
	result Result
	first  map[uint64]string // path of the first name of inodes with several
	dirs   map[uint64]bool   // that have been met: none has two names
}

func newUnpacker(ctx context.Context, t image.Tree, o Options) (*unpacker, error) {
	if o.Backend == nil {
		o.Backend = noBackend{}
	}
	if l, ok := t.(image.MetaLoader); ok {
		if err := l.LoadMeta(ctx, o.Backend); err != nil {
			return nil, err
		}
	}
	return &unpacker{ctx: ctx, t: t, o: o, r: direct.NewReader(o.Backend), first: map[uint64]string{}, dirs: map[uint64]bool{}}, nil
}

var errNoBackend = errors.New("its blobs were not given")

type noBackend struct{}

func (noBackend) ReadAt(context.Context, string, []byte, int64) error { return errNoBackend }
func (noBackend) Size(context.Context, string) (int64, error)         { return 0, errNoBackend }

// linked returns the path of the first name of an inode if this is another.
func (u *unpacker) linked(path string, in *image.Inode) (string, bool) {
	if in.Nlink < 2 || in.Mode&image.TypeMask == image.TypeDirectory {
		return "", false
	}
	first, ok := u.first[in.NID]
	if !ok {
		u.first[in.NID] = path
	}
	return first, ok
}

// maxDepth is how deep directories may be nested: each level costs a file
// descriptor.
const maxDepth = 4096

// child is an entry of a directory.
type child struct {
	name string
	nid  uint64
}

// list returns the entries of the directory nid, which is met once only.
func (u *unpacker) list(dir string, nid uint64, depth int) (children []child, err error) {
	if err := u.ctx.Err(); err != nil {
		return nil, err
	}
	if depth > maxDepth || u.dirs[nid] {
		return nil, &image.FormatError{
			Format: u.t.Info().Format, Offset: -1,
			What: fmt.Sprintf("directory %q is nested too deep, or has two names", dir),
		}
	}
	u.dirs[nid] = true
	err = u.t.ReadDir(nid, 0, func(d image.Dirent) bool {
		if s := string(d.Name); s != "." && s != ".." {
			children = append(children, child{s, d.NID})
		}
		return true
	})
	return children, wrap(dir, err)
}

func (u *unpacker) skip(path, why string) {
	u.result.Skipped = append(u.result.Skipped, path+": "+why)
}

// pieces calls f for the contents of a regular file.
func (u *unpacker) pieces(in *image.Inode, f func(p []byte, n int64) error) error {
	return u.r.Pieces(u.ctx, u.t, in.NID, int64(in.Size), func(p []byte, n int64) error {
		u.result.Bytes += n
		if u.o.Progress != nil {
			u.o.Progress(u.result.Bytes)
		}
		return f(p, n)
	})
}

// xattrs returns the attributes of an inode.
func (u *unpacker) xattrs(nid uint64) (map[string]string, error) {
	var names []string
	err := u.t.ListXattr(nid, func(prefix string, suffix []byte) bool {
		names = append(names, prefix+string(suffix))
		return true
	})
	if err != nil || len(names) == 0 {
		return nil, err
	}
	all := make(map[string]string, len(names))
	for _, name := range names {
		v, err := u.t.Xattr(nid, name)
		if err != nil {
			return nil, err
		}
		all[name] = string(v)
	}
	return all, nil
}

// split returns the two halves of a device number in Linux's new encoding.
func split(rdev uint32) (major, minor uint32) {
	return rdev >> 8 & 0xfff, rdev&0xff | rdev>>12&0xfff00
}

// TarFile unpacks the image to a tar called name, which appears when it is
// complete and on disk. A pipe or a device is written as it is.
func TarFile(ctx context.Context, t image.Tree, name string, o Options) (r *Result, err error) {
	name, through, err := sys.Output(name)
	if err != nil {
		return nil, err
	}
	if through != nil {
		r, err = Tar(ctx, t, through, o)
		return r, errors.Join(err, through.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if r, err = Tar(ctx, t, f, o); err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return r, os.Rename(f.Name(), name)
}

// wrap says which entry an error is about.
func wrap(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", image.OneLine(path), err)
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeros{}
