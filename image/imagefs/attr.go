package imagefs

import (
	"github.com/sluicefs/sluice/fuse"
)

// Lookup finds name in a directory. A name that is not there is remembered
// by the kernel like one that is.
func (f *FS) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.counts.lookups.Add(1)
	dir := f.ids.nid(header.NodeId)
	nid, err := f.tree.Lookup(dir, name)
	if err != nil {
		st := f.status("lookup", dir, err)
		if st == fuse.ENOENT {
			f.negative(out)
			return fuse.OK
		}
		return st
	}
	return f.entry(nid, out)
}

// negative fills in an answer that means: there is no such name, and there
// will not be one.
func (f *FS) negative(out *fuse.EntryOut) {
	*out = fuse.EntryOut{}
	out.EntryValid, out.EntryValidNsec = f.valid, f.nsec
}

// entry fills out with the inode nid.
func (f *FS) entry(nid uint64, out *fuse.EntryOut) fuse.Status {
	id, err := f.ids.id(nid)
	if err != nil {
		return f.status("lookup", nid, err)
	}
	if err := f.attr(nid, &out.Attr); err != nil {
		return f.status("lookup", nid, err)
	}
	out.NodeId = id
	out.Generation = 1
	out.EntryValid, out.EntryValidNsec = f.valid, f.nsec
	out.AttrValid, out.AttrValidNsec = f.valid, f.nsec
	return fuse.OK
}

// GetAttr answers with the attributes of an inode.
func (f *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.counts.getattrs.Add(1)
	nid := f.ids.nid(in.NodeId)
	if err := f.attr(nid, &out.Attr); err != nil {
		return f.status("getattr", nid, err)
	}
	out.AttrValid, out.AttrValidNsec = f.valid, f.nsec
	return fuse.OK
}

// lookedEvery is how many inodes are looked at between two calls of
// Options.Looked.
const lookedEvery = 128

func (f *FS) attr(nid uint64, out *fuse.Attr) error {
	sc := getScratch()
	defer putScratch(sc)
	in := &sc.inode
	if err := f.tree.Stat(nid, in); err != nil {
		return err
	}
	if f.opts.Looked != nil && f.looks.Add(1)%lookedEvery == 0 {
		f.opts.Looked()
	}
	sec := uint64(in.MTime)
	out.Ino = in.NID
	out.Size = in.Size
	out.Blocks = in.Blocks
	out.Atime, out.Mtime, out.Ctime = sec, sec, sec
	out.Atimensec, out.Mtimensec, out.Ctimensec = in.MTimeNsec, in.MTimeNsec, in.MTimeNsec
	out.Mode = in.Mode
	out.Nlink = in.Nlink
	out.Uid, out.Gid = in.UID, in.GID
	out.Rdev = in.Rdev
	out.Blksize = f.stat.Bsize
	if f.opts.UID != nil {
		out.Uid = *f.opts.UID
	}
	if f.opts.GID != nil {
		out.Gid = *f.opts.GID
	}
	return nil
}
