package imagefs

import (
	"sync"
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image"
)

// OpenDir answers ENOSYS, after which the kernel opens directories without
// asking and keeps their listings for ever.
func (f *FS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// ReleaseDir has nothing to give back.
func (f *FS) ReleaseDir(*fuse.ReleaseIn) {}

// ReadDir lists a directory, "." and ".." among its entries.
func (f *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, out, false)
}

// ReadDirPlus lists a directory with the attributes of its entries, so that
// a walk with stat needs one request per directory.
func (f *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, out, true)
}

func (f *FS) list(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	f.counts.readdirs.Add(1)
	l := listers.Get().(*lister)
	defer l.free()
	l.fs, l.out, l.plus = f, out, plus
	dir := f.ids.nid(in.NodeId)
	if err := f.tree.ReadDir(dir, in.Offset, l.add); err != nil {
		return f.status("readdir", dir, err)
	}
	if l.err != nil && l.added == 0 {
		return f.status("readdir", dir, l.err)
	}
	return fuse.OK
}

// lister adds the entries of one listing to the reply. It is pooled, with
// add bound once: a new closure for each request would be an allocation.
type lister struct {
	add   func(image.Dirent) bool
	fs    *FS
	out   *fuse.DirEntryList
	plus  bool
	added int
	err   error // of an entry, which ends the listing there
}

var listers = sync.Pool{New: func() any {
	l := new(lister)
	l.add = l.entry
	return l
}}

func (l *lister) free() {
	*l = lister{add: l.add}
	listers.Put(l)
}

// entry adds d and reports whether there is room for more.
func (l *lister) entry(d image.Dirent) bool {
	e := fuse.DirEntry{
		Mode: uint32(d.Type) << 12,
		Name: unsafe.String(unsafe.SliceData(d.Name), len(d.Name)), // lives as long as the tree
		Ino:  d.NID,
		Off:  d.Next,
	}
	if !l.plus {
		if !l.out.AddDirEntry(e) {
			return false
		}
		l.added++
		return true
	}
	out := l.out.AddDirLookupEntry(e)
	if out == nil {
		return false
	}
	l.added++
	if e.Name == "." || e.Name == ".." {
		return true // the kernel wants no node for these
	}
	if st := l.fs.entry(d.NID, out); st != fuse.OK {
		// The name stays in the listing without a node: whoever looks at
		// it gets the error, the rest of the directory remains usable.
		*out = fuse.EntryOut{}
		l.err = syscall.Errno(st)
	}
	return true
}

// Readlink returns the target of a symbolic link.
func (f *FS) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	nid := f.ids.nid(header.NodeId)
	target, err := f.tree.Readlink(nid)
	if err != nil {
		return nil, f.status("readlink", nid, err)
	}
	return target, fuse.OK
}

// Access is only asked without the mount option default_permissions, which
// serve sets; nothing can be written here.
func (f *FS) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	const writeMask = 2
	if in.Mask&writeMask != 0 {
		return fuse.EROFS
	}
	return fuse.ENOSYS
}

// GetXAttr copies the value of an extended attribute into dest; a dest of
// no bytes asks for the size.
func (f *FS) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if f.opts.NoXattrs {
		return 0, fuse.ENOSYS
	}
	nid := f.ids.nid(header.NodeId)
	v, err := f.tree.Xattr(nid, attr)
	if err != nil {
		return 0, f.status("getxattr", nid, err)
	}
	if len(dest) > 0 && len(v) > len(dest) {
		return uint32(len(v)), fuse.ERANGE
	}
	copy(dest, v)
	return uint32(len(v)), fuse.OK
}

// ListXAttr writes the names of the extended attributes, each with a zero
// behind it, into dest; a dest of no bytes asks for the size.
func (f *FS) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if f.opts.NoXattrs {
		return 0, fuse.OK // unlike for a value, programs take "not supported" for a failure here
	}
	nid := f.ids.nid(header.NodeId)
	size := 0
	err := f.tree.ListXattr(nid, func(prefix string, suffix []byte) bool {
		n := len(prefix) + len(suffix) + 1
		if size+n <= len(dest) {
			p := dest[size:]
			p = p[copy(p, prefix):]
			p = p[copy(p, suffix):]
			p[0] = 0
		}
		size += n
		return true
	})
	switch {
	case err != nil:
		return 0, f.status("listxattr", nid, err)
	case len(dest) > 0 && size > len(dest):
		return uint32(size), fuse.ERANGE
	}
	return uint32(size), fuse.OK
}
