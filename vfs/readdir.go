package vfs

import (
	"encoding/binary"
	"unsafe"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// ReadDir forwards, then lists what is attached in the directory.
func (f *FS) ReadDir(c <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return f.readDir(c, in, list, false)
}

// ReadDirPlus is like ReadDir and gives a reference for each entry.
func (f *FS) ReadDirPlus(c <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return f.readDir(c, in, list, true)
}

func (f *FS) readDir(c <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList, plus bool) fuse.Status {
	return f.atDir(&in.InHeader, &in.Fh, func(m *Mount) fuse.Status {
		d := f.dirAt(m, in.NodeId)
		kids := d != nil && d.n.Load() > 0
		offset := in.Offset
		if offset < kidOffset || offset == endOffset || !kids && m != f.own {
			offset = 0
			st := fuse.ENOSYS
			if plus {
				st = m.fs.ReadDirPlus(c, in, list)
			} else {
				st = m.fs.ReadDir(c, in, list)
			}
			if st != fuse.OK {
				return instead(st, fuse.ENOTSUP)
			}
			m.mapDirents(f, d, list.Bytes(), plus)
			if len(list.Bytes()) > 0 && m != f.own {
				return st
			}
		}
		if kids {
			f.listKids(m, d, &in.InHeader, offset, list, plus)
		}
		return fuse.OK
	})
}

// mapDirents makes the records of a listing what the kernel may see, and
// counts their references. d is not nil in a directory where the union may
// have entries of its own.
func (m *Mount) mapDirents(f *FS, d *dir, b []byte, plus bool) {
	ne := binary.NativeEndian
	head := 0
	if plus {
		head = wire.EntryOutSize
	}
	for len(b) >= head+wire.DirentSize {
		rec := b[head:]
		name := rec[wire.DirentSize:]
		if n := ne.Uint32(rec[16:]); uint64(n) <= uint64(len(name)) {
			name = name[:n]
		} else {
			return // not what a DirEntryList writes
		}
		ino := ne.Uint64(rec)
		dot := string(name) == "." || string(name) == ".."
		switch {
		case m == f.own:
		case len(name) == 2 && dot && d != nil && d.parent != nil:
			ne.PutUint64(rec, ownIno|d.parent.id)
		default:
			ne.PutUint64(rec, m.ino(ino))
		}
		if plus {
			m.mapPlus(f, d, (*fuse.EntryOut)(unsafe.Pointer(unsafe.SliceData(b))), name, dot)
		}
		b = b[min(head+wire.Align8(wire.DirentSize+len(name)), len(b)):]
	}
}

// mapPlus maps the answer to a look-up inside a listing. "." and ".." give no
// reference, and neither does a name that the union has something else at.
func (m *Mount) mapPlus(f *FS, d *dir, out *fuse.EntryOut, name []byte, dot bool) {
	if out.NodeId == 0 {
		return
	}
	if dot {
		*out = fuse.EntryOut{}
		return
	}
	if d != nil && d.n.Load() > 0 && f.kidAt(m, fuse.FUSE_ROOT_ID, string(name)) != nil {
		m.fs.Forget(out.NodeId, 1)
		*out = fuse.EntryOut{}
		return
	}
	m.give(out)
}
