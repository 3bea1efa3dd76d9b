package vfs

import (
	"strings"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// entryAt is at for an operation that gives a reference.
func (f *FS) entryAt(h *fuse.InHeader, out *fuse.EntryOut, call func(m *Mount) fuse.Status) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status {
		st := call(m)
		if st == fuse.OK {
			m.give(out)
		}
		return st
	})
}

// busy is EBUSY for names that lead to something attached.
func (f *FS) busy(m *Mount, node uint64, name string) fuse.Status {
	if f.kidAt(m, node, name) != nil {
		return fuse.EBUSY
	}
	return fuse.OK
}

// Lookup finds what is attached first, then asks the file system.
func (f *FS) Lookup(c <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status {
		if d := f.kidAt(m, h.NodeId, name); d != nil {
			return f.entry(c, h, d, out)
		}
		if name == ".." && m != f.own && h.NodeId == fuse.FUSE_ROOT_ID && !m.root {
			return f.entry(c, h, m.entry.parent, out)
		}
		st := m.fs.Lookup(c, h, name, out)
		if st == fuse.OK {
			m.give(out)
			if m.state.Load() != attached {
				m.trace.looked(m.Node(h.NodeId), strings.Clone(name))
			}
		}
		return st
	})
}

// Forget goes to the file system as long as that is called at all.
func (f *FS) Forget(node, nlookup uint64) {
	m, inner, ok := f.resolve(node)
	if !ok || m == f.own || node == fuse.FUSE_ROOT_ID {
		return
	}
	m.active.Add(1)
	m.stats.ops[wire.OpForget].Add(1)
	if m.state.Load() < strictly {
		m.fs.Forget(inner, nlookup)
	}
	m.leaveQuietly()
	m.take(inner, nlookup)
}

// GetAttr forwards to the file system of the node.
func (f *FS) GetAttr(c <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		st := m.fs.GetAttr(c, in, out)
		if st == fuse.OK && m != f.own {
			m.attr(out)
		}
		return st
	})
}

// SetAttr forwards to the file system of the node.
func (f *FS) SetAttr(c <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		st := fuse.OK
		switch {
		case in.Valid&fuse.FATTR_KILL_SUIDGID != 0 && in.Valid&fuse.FATTR_SIZE != 0:
			st = m.dropSetID(c, &in.InHeader)
		case in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0:
			st = m.dropSetIDForUser(c, &in.InHeader)
		}
		if st != fuse.OK {
			return st
		}
		if st = m.fs.SetAttr(c, in, out); st == fuse.OK {
			m.attr(out)
		}
		return st
	})
}

// Statx forwards, and makes do with GetAttr where the file system has it not.
func (f *FS) Statx(c <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		st := m.fs.Statx(c, in, out)
		if st == fuse.ENOSYS {
			st = m.statxByGetattr(c, in, out)
		}
		if st == fuse.OK && m != f.own {
			out.Ino = m.ino(out.Ino)
			if !m.keeps(&fuse.Attr{Mode: uint32(out.Mode)}) {
				out.SetTimeout(0)
			}
		}
		return st
	})
}

// StatFs forwards to the file system of the node.
func (f *FS) StatFs(c <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status { return m.fs.StatFs(c, h, out) })
}

// Access forwards to the file system of the node.
func (f *FS) Access(c <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status { return instead(m.fs.Access(c, in), fuse.OK) })
}

// Readlink forwards to the file system of the node.
func (f *FS) Readlink(c <-chan struct{}, h *fuse.InHeader) (target []byte, code fuse.Status) {
	code = f.at(h, func(m *Mount) (st fuse.Status) {
		target, st = m.fs.Readlink(c, h)
		return st
	})
	return target, code
}

// Mknod forwards to the file system of the directory.
func (f *FS) Mknod(c <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.entryAt(&in.InHeader, out, func(m *Mount) fuse.Status { return m.fs.Mknod(c, in, name, out) })
}

// Mkdir forwards to the file system of the directory.
func (f *FS) Mkdir(c <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.entryAt(&in.InHeader, out, func(m *Mount) fuse.Status { return m.fs.Mkdir(c, in, name, out) })
}

// Symlink forwards to the file system of the directory.
func (f *FS) Symlink(c <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.entryAt(h, out, func(m *Mount) fuse.Status { return m.fs.Symlink(c, h, target, name, out) })
}

// Link forwards if both nodes belong to one file system.
func (f *FS) Link(c <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.entryAt(&in.InHeader, out, func(m *Mount) fuse.Status {
		inner, st := f.same(m, in.Oldnodeid)
		if st != fuse.OK {
			return st
		}
		in.Oldnodeid = inner
		return m.fs.Link(c, in, name, out)
	})
}

// Unlink forwards, unless the name leads to something attached.
func (f *FS) Unlink(c <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status {
		if st := f.busy(m, h.NodeId, name); st != fuse.OK {
			return st
		}
		return m.fs.Unlink(c, h, name)
	})
}

// Rmdir forwards, unless the name leads to something attached.
func (f *FS) Rmdir(c <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status {
		if st := f.busy(m, h.NodeId, name); st != fuse.OK {
			return st
		}
		return m.fs.Rmdir(c, h, name)
	})
}

// Rename forwards if both directories belong to one file system and neither
// name leads to something attached.
func (f *FS) Rename(c <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		inner, st := f.same(m, in.Newdir)
		if st == fuse.OK {
			st = f.busy(m, in.NodeId, oldName)
		}
		if st == fuse.OK {
			st = f.busy(m, inner, newName)
		}
		if st != fuse.OK {
			return st
		}
		in.Newdir = inner
		st = m.fs.Rename(c, in, oldName, newName)
		if in.Flags != 0 {
			st = instead(st, fuse.EINVAL)
		}
		return st
	})
}

// GetXAttr forwards to the file system of the node. One without access control
// lists has none: a kernel that asks for them takes any other error for a
// reason to let only root and the owner in.
func (f *FS) GetXAttr(c <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (n uint32, code fuse.Status) {
	code = f.at(h, func(m *Mount) (st fuse.Status) {
		n, st = m.fs.GetXAttr(c, h, attr, dest)
		st = instead(st, fuse.ENOTSUP)
		if st == fuse.ENOTSUP && strings.HasPrefix(attr, "system.posix_acl_") {
			st = fuse.ENODATA
		}
		return st
	})
	return n, code
}

// ListXAttr forwards to the file system of the node.
func (f *FS) ListXAttr(c <-chan struct{}, h *fuse.InHeader, dest []byte) (n uint32, code fuse.Status) {
	code = f.at(h, func(m *Mount) (st fuse.Status) {
		n, st = m.fs.ListXAttr(c, h, dest)
		return instead(st, fuse.ENOTSUP)
	})
	return n, code
}

// SetXAttr forwards to the file system of the node.
func (f *FS) SetXAttr(c <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		return instead(m.fs.SetXAttr(c, in, attr, data), fuse.ENOTSUP)
	})
}

// RemoveXAttr forwards to the file system of the node.
func (f *FS) RemoveXAttr(c <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	return f.at(h, func(m *Mount) fuse.Status {
		return instead(m.fs.RemoveXAttr(c, h, attr), fuse.ENOTSUP)
	})
}

// GetLk forwards to the file system of the node. ENOSYS goes to the kernel,
// which then has locks of its own for the whole union.
func (f *FS) GetLk(c <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status { return m.fs.GetLk(c, in, out) })
}

// SetLk forwards like GetLk.
func (f *FS) SetLk(c <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status { return m.fs.SetLk(c, in) })
}

// SetLkw forwards like GetLk.
func (f *FS) SetLkw(c <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status { return m.fs.SetLkw(c, in) })
}

// CopyFileRange forwards if both files belong to one file system.
func (f *FS) CopyFileRange(c <-chan struct{}, in *fuse.CopyFileRangeIn) (n uint32, code fuse.Status) {
	code = f.at(&in.InHeader, func(m *Mount) fuse.Status {
		inner, st := f.same(m, in.NodeIdOut)
		if st != fuse.OK {
			return st
		}
		in.NodeIdOut = inner
		to := in.InHeader
		to.NodeId = inner
		if st := m.dropSetIDForUser(c, &to); st != fuse.OK {
			return st
		}
		n, st = m.fs.CopyFileRange(c, in)
		return instead(st, fuse.ENOTSUP)
	})
	return n, code
}

// Fallocate forwards to the file system of the node.
func (f *FS) Fallocate(c <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		if st := m.dropSetIDForUser(c, &in.InHeader); st != fuse.OK {
			return st
		}
		return instead(m.fs.Fallocate(c, in), fuse.ENOTSUP)
	})
}

// Ioctl forwards to the file system of the node.
func (f *FS) Ioctl(c <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	return f.atDir(&in.InHeader, &in.Fh, func(m *Mount) fuse.Status {
		return instead(m.fs.Ioctl(c, in, inbuf, out, outbuf), fuse.Status(syscall.ENOTTY))
	})
}

// Syncfs has every file system that can write out what it holds.
func (f *FS) Syncfs(c <-chan struct{}, in *fuse.SyncfsIn) fuse.Status {
	st := fuse.OK
	for _, m := range f.Mounts() {
		s, ok := m.fs.(fuse.RawSyncer)
		if !ok {
			continue
		}
		each := *in
		each.NodeId = m.Node(fuse.FUSE_ROOT_ID)
		each.Unique = 0
		if got := f.at(&each.InHeader, func(*Mount) fuse.Status { return s.Syncfs(c, &each) }); got != estale && st == fuse.OK {
			st = got
		}
	}
	return st
}
