package vfs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// opened counts a handle that the kernel got.
func (m *Mount) opened(st fuse.Status) fuse.Status {
	if st == fuse.OK {
		m.opens.Add(1)
	}
	return st
}

// Open forwards; a file system whose files need no opening is not asked again.
func (f *FS) Open(c <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 && in.Flags&syscall.O_TRUNC != 0 {
			if st := m.dropSetID(c, &in.InHeader); st != fuse.OK {
				return st
			}
		}
		if !m.noOpen.Load() {
			st := m.fs.Open(c, in, out)
			if st != fuse.ENOSYS {
				return m.opened(st)
			}
			m.noOpen.Store(true)
		}
		if f.opts.OpenLess {
			return fuse.ENOSYS
		}
		*out = fuse.OpenOut{OpenFlags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH}
		return m.opened(fuse.OK)
	})
}

// Create forwards; where that is missing it makes a file and opens it.
func (f *FS) Create(c <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return f.entryAt(&in.InHeader, &out.EntryOut, func(m *Mount) fuse.Status {
		st := m.fs.Create(c, in, name, out)
		if st == fuse.ENOSYS {
			st = m.createByMknod(c, in, name, out)
		}
		return m.opened(st)
	})
}

// Tmpfile forwards to the file system of the directory.
func (f *FS) Tmpfile(c <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return f.entryAt(&in.InHeader, &out.EntryOut, func(m *Mount) fuse.Status {
		return m.opened(instead(m.fs.Tmpfile(c, in, out), fuse.ENOTSUP))
	})
}

// Read forwards to the file system of the node.
func (f *FS) Read(c <-chan struct{}, in *fuse.ReadIn, buf []byte) (res fuse.ReadResult, code fuse.Status) {
	code = f.at(&in.InHeader, func(m *Mount) (st fuse.Status) {
		res, st = m.fs.Read(c, in, buf)
		if res != nil && st == fuse.OK {
			m.stats.gave(res.Size())
		}
		return st
	})
	return res, code
}

// Write forwards to the file system of the node.
func (f *FS) Write(c <-chan struct{}, in *fuse.WriteIn, data []byte) (n uint32, code fuse.Status) {
	code = f.at(&in.InHeader, func(m *Mount) (st fuse.Status) {
		if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
			if st := m.dropSetID(c, &in.InHeader); st != fuse.OK {
				return st
			}
		}
		n, st = m.fs.Write(c, in, data)
		m.wrote(n, st)
		return st
	})
	return n, code
}

// Writev forwards to the file system of the node; ENOSYS has the server call
// Write.
func (f *FS) Writev(c <-chan struct{}, in *fuse.WriteIn, data [][]byte) (n uint32, code fuse.Status) {
	m, _, ok := f.resolve(in.NodeId)
	if !ok {
		return 0, estale
	}
	if m.noWritev.Load() {
		return 0, fuse.ENOSYS
	}
	code = f.at(&in.InHeader, func(m *Mount) (st fuse.Status) {
		if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
			if st := m.dropSetID(c, &in.InHeader); st != fuse.OK {
				return st
			}
		}
		n, st = m.fs.Writev(c, in, data)
		if st == fuse.ENOSYS {
			m.noWritev.Store(true)
		}
		m.wrote(n, st)
		return st
	})
	return n, code
}

func (m *Mount) wrote(n uint32, st fuse.Status) {
	if st == fuse.OK {
		m.stats.wrote.Add(uint64(n))
	}
}

// Lseek forwards; where that is missing a file has data up to its end.
func (f *FS) Lseek(c <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		st := m.fs.Lseek(c, in, out)
		if st == fuse.ENOSYS {
			st = m.lseekBySize(c, in, out)
		}
		return st
	})
}

// Flush forwards to the file system of the node.
func (f *FS) Flush(c <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		if m.noOpen.Load() {
			if f.opts.OpenLess {
				return fuse.ENOSYS
			}
			return fuse.OK
		}
		return instead(m.fs.Flush(c, in), fuse.OK)
	})
}

// Fsync forwards to the file system of the node.
func (f *FS) Fsync(c <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.at(&in.InHeader, func(m *Mount) fuse.Status { return instead(m.fs.Fsync(c, in), fuse.OK) })
}

// Release forwards as long as the file system is called at all.
func (f *FS) Release(c <-chan struct{}, in *fuse.ReleaseIn) {
	m, _, ok := f.resolve(in.NodeId)
	if !ok {
		return
	}
	f.at(&in.InHeader, func(m *Mount) fuse.Status {
		if !m.noOpen.Load() {
			m.fs.Release(c, in)
		}
		return fuse.OK
	})
	m.closed()
}

// OpenDir forwards like Open.
func (f *FS) OpenDir(c <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	root := in.NodeId == fuse.FUSE_ROOT_ID
	return f.at(&in.InHeader, func(m *Mount) fuse.Status {
		st := fuse.ENOSYS
		if !m.noOpendir.Load() {
			st = m.fs.OpenDir(c, in, out)
		}
		if st == fuse.ENOSYS {
			m.noOpendir.Store(true)
			if f.opts.OpenLess {
				return fuse.ENOSYS
			}
			*out = fuse.OpenOut{OpenFlags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR}
			st = fuse.OK
		}
		if st == fuse.OK && root {
			out.Fh = f.roots.add(m, out.Fh)
		}
		return m.opened(st)
	})
}

// ReleaseDir forwards like Release.
func (f *FS) ReleaseDir(in *fuse.ReleaseIn) {
	m, _, ok := f.resolve(in.NodeId)
	outer := in.Fh
	if in.NodeId == fuse.FUSE_ROOT_ID {
		var h rootHandle
		h, ok = f.roots.get(outer)
		m = h.m
	}
	if !ok {
		return
	}
	f.atDir(&in.InHeader, &in.Fh, func(m *Mount) fuse.Status {
		if !m.noOpendir.Load() {
			m.fs.ReleaseDir(in)
		}
		return fuse.OK
	})
	if in.NodeId == fuse.FUSE_ROOT_ID {
		f.roots.remove(outer)
	}
	m.closed()
}

// FsyncDir forwards to the file system of the directory.
func (f *FS) FsyncDir(c <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.atDir(&in.InHeader, &in.Fh, func(m *Mount) fuse.Status {
		return instead(m.fs.FsyncDir(c, in), fuse.OK)
	})
}
