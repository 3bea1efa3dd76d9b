package vfs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// instead turns ENOSYS, which the kernel would remember for all file systems
// of the union, into what it means for one.
func instead(st, meaning fuse.Status) fuse.Status {
	if st == fuse.ENOSYS {
		return meaning
	}
	return st
}

// createByMknod does what the kernel does where CREATE is missing.
func (m *Mount) createByMknod(c <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	mk := fuse.MknodIn{InHeader: in.InHeader, Mode: in.Mode&^syscall.S_IFMT | syscall.S_IFREG, Umask: in.Umask}
	mk.Opcode, mk.Unique = uint32(wire.OpMknod), 0
	if st := m.fs.Mknod(c, &mk, name, &out.EntryOut); st != fuse.OK {
		return synchronous(st)
	}
	open := fuse.OpenIn{InHeader: in.InHeader, Flags: in.Flags &^ (syscall.O_CREAT | syscall.O_EXCL)}
	open.Opcode, open.Unique, open.NodeId = uint32(wire.OpOpen), 0, out.NodeId
	st := m.fs.Open(c, &open, &out.OpenOut)
	if st == fuse.ENOSYS {
		m.noOpen.Store(true)
		out.OpenOut = fuse.OpenOut{OpenFlags: fuse.FOPEN_KEEP_CACHE}
		st = fuse.OK
	}
	if st != fuse.OK {
		m.fs.Forget(out.NodeId, 1)
	}
	return synchronous(st)
}

// synchronous is the result of a call whose answer could not be given late: the
// request had no id.
func synchronous(st fuse.Status) fuse.Status {
	if st == fuse.Pending || st == fuse.ENOSYS {
		return fuse.ENOTSUP
	}
	return st
}

// getattr asks for the attributes of a node in the name of another request.
func (m *Mount) getattr(c <-chan struct{}, h *fuse.InHeader, fh uint64, flags uint32, out *fuse.AttrOut) fuse.Status {
	in := fuse.GetAttrIn{InHeader: *h, Flags_: flags, Fh_: fh}
	in.Opcode, in.Unique = uint32(wire.OpGetattr), 0
	return synchronous(m.fs.GetAttr(c, &in, out))
}

// lseekBySize finds data everywhere up to the end of the file, and a hole
// behind it.
func (m *Mount) lseekBySize(c <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	var a fuse.AttrOut
	if st := m.getattr(c, &in.InHeader, in.Fh, fuse.FUSE_GETATTR_FH, &a); st != fuse.OK {
		return st
	}
	const seekData, seekHole = 3, 4
	if in.Offset >= a.Size {
		return fuse.Status(syscall.ENXIO)
	}
	switch in.Whence {
	case seekData:
		out.Offset = in.Offset
	case seekHole:
		out.Offset = a.Size
	default:
		return fuse.EINVAL
	}
	return fuse.OK
}

// statxBasic are the fields that GETATTR knows: STATX_BASIC_STATS.
const statxBasic = 0x7ff

func (m *Mount) statxByGetattr(c <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var a fuse.AttrOut
	if st := m.getattr(c, &in.InHeader, in.Fh, in.GetattrFlags&fuse.FUSE_GETATTR_FH, &a); st != fuse.OK {
		return st
	}
	out.AttrValid, out.AttrValidNsec = a.AttrValid, a.AttrValidNsec
	s := &out.Statx
	s.Mask, s.Blksize, s.Nlink = statxBasic, a.Blksize, a.Nlink
	s.Uid, s.Gid, s.Mode = a.Uid, a.Gid, uint16(a.Mode)
	s.Ino, s.Size, s.Blocks = a.Ino, a.Size, a.Blocks
	s.Atime = fuse.SxTime{Sec: a.Atime, Nsec: a.Atimensec}
	s.Mtime = fuse.SxTime{Sec: a.Mtime, Nsec: a.Mtimensec}
	s.Ctime = fuse.SxTime{Sec: a.Ctime, Nsec: a.Ctimensec}
	s.RdevMajor, s.RdevMinor = a.Rdev>>8&0xfff, a.Rdev&0xff|a.Rdev>>12&^uint32(0xff)
	return fuse.OK
}
