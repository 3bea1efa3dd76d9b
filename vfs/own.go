package vfs

import (
	"github.com/sluicefs/sluice/fuse"
)

// ownFS is what stands in slot 0: the directories that lead to what is
// attached. Looking up in them is the union's.
type ownFS struct {
	fuse.RawFileSystem
	f *FS
}

func newOwnFS(f *FS) fuse.RawFileSystem {
	return &ownFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), f: f}
}

func (o *ownFS) String() string { return "sluice" }

func (o *ownFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	o.f.mu.RLock()
	defer o.f.mu.RUnlock()
	d := o.f.dirs[in.NodeId]
	if d == nil {
		return estale
	}
	o.f.attr(d, &out.Attr)
	out.SetTimeout(o.f.opts.EntryTimeout)
	return fuse.OK
}

// Lookup is asked for what is not there only.
func (o *ownFS) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return fuse.ENOENT
}

func (o *ownFS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if o.f.opts.OpenLess {
		return fuse.ENOSYS
	}
	return fuse.OK
}

// ReadDir lists "." and ".."; the rest is added by the union.
func (o *ownFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	o.f.mu.RLock()
	d := o.f.dirs[in.NodeId]
	up := d
	if d != nil && d.parent != nil {
		up = d.parent
	}
	o.f.mu.RUnlock()
	if d == nil {
		return estale
	}
	dots := []fuse.DirEntry{
		{Name: ".", Mode: fuse.S_IFDIR, Ino: ownIno | d.id, Off: 1},
		{Name: "..", Mode: fuse.S_IFDIR, Ino: ownIno | up.id, Off: 2},
	}
	for _, e := range dots[min(in.Offset, 2):] {
		list.AddDirEntry(e)
	}
	return fuse.OK
}

// ReadDirPlus answers as ReadDir does, in records that give no reference.
func (o *ownFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	plain := fuse.NewDirEntryList(make([]byte, 128), 0)
	if st := o.ReadDir(cancel, in, plain); st != fuse.OK {
		return st
	}
	dots, err := fuse.ParseDirEntries(plain.Bytes())
	if err != nil {
		return fuse.EIO
	}
	for _, e := range dots {
		if list.AddDirLookupEntry(e) == nil {
			break
		}
	}
	return fuse.OK
}

func (o *ownFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: 255}
	return fuse.OK
}

func (o *ownFS) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if in.Mask&fuse.W_OK != 0 {
		return fuse.EROFS
	}
	return fuse.OK
}

// What would change these directories is refused: they are as they are
// because of what is attached.

func (o *ownFS) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }
func (o *ownFS) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status  { return fuse.EROFS }

func (o *ownFS) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}

func (o *ownFS) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}
