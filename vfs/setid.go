package vfs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/internal/sys"
)

// A SetIDClearer is a file system that takes set-id bits from its files where
// requests ask for it, as HANDLE_KILLPRIV_V2 wants (see [FS.Capabilities]), or
// whose files cannot be written. For others the union does it.
type SetIDClearer interface {
	ClearsSetID() bool
}

// Capabilities are for fuse.MountOptions.ExtraCapabilities of a session that a
// union serves: with HANDLE_KILLPRIV_V2 the kernel does not ask for
// security.capability before each write, for the file system takes set-id bits
// away. Each file system of the union does it, or has it done. With SETXATTR_EXT
// the kernel says which ACLs take the set-group-id bit.
const Capabilities = fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_READDIRPLUS_AUTO

// clearsSetID reports whether the union need not do it for m.
func (m *Mount) clearsSetID() bool {
	c, ok := m.fs.(SetIDClearer)
	return ok && c.ClearsSetID()
}

// dropSetID takes the set-id bits from the file that a request is about to
// change, with the methods that any file system has.
func (m *Mount) dropSetID(c <-chan struct{}, h *fuse.InHeader) fuse.Status {
	if m.ownSetID {
		return fuse.OK
	}
	var a fuse.AttrOut
	if st := m.getattr(c, h, 0, 0, &a); st != fuse.OK {
		return st
	}
	if !hasSetID(&a.Attr) {
		return fuse.OK
	}
	mode := sys.WithoutSetID(a.Mode, a.Gid, h.Gid, h.Pid)
	if mode == a.Mode {
		return fuse.OK
	}
	var in fuse.SetAttrIn
	in.InHeader = *h
	in.Opcode, in.Unique, in.Uid, in.Gid = uint32(wire.OpSetattr), 0, 0, 0
	in.Valid, in.Mode = fuse.FATTR_MODE, mode
	return synchronous(m.fs.SetAttr(c, &in, &a))
}

// dropSetIDForUser is dropSetID for requests that the kernel does not mark.
func (m *Mount) dropSetIDForUser(c <-chan struct{}, h *fuse.InHeader) fuse.Status {
	if h.Uid == 0 {
		return fuse.OK
	}
	return m.dropSetID(c, h)
}

// hasSetID reports whether attributes are those of a regular file with set-id
// bits.
func hasSetID(a *fuse.Attr) bool {
	return a.Mode&syscall.S_IFMT == syscall.S_IFREG && a.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}

// keeps reports whether the kernel may keep attributes of m for as long as m
// says: set-id bits go by a write that the kernel may do by itself, and it
// would go on to run the program with them.
func (m *Mount) keeps(a *fuse.Attr) bool { return m.ownSetID || !hasSetID(a) }
