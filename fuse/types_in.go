package fuse

// ForgetIn takes back Nlookup references to a node.
type ForgetIn struct {
	InHeader
	Nlookup uint64
}

// ForgetOne is one entry of a BATCH_FORGET (fuse_forget_one, 16 bytes).
type ForgetOne struct {
	NodeId  uint64
	Nlookup uint64
}

// GetAttrIn asks for attributes.
type GetAttrIn struct {
	InHeader
	Flags_ uint32
	Dummy  uint32
	Fh_    uint64
}

// Flags returns the request's flags: FUSE_GETATTR_FH says that Fh is valid.
func (g *GetAttrIn) Flags() uint32 { return g.Flags_ }

// Fh returns the handle of the open file that is asked about, if the flag
// FUSE_GETATTR_FH is set.
func (g *GetAttrIn) Fh() uint64 { return g.Fh_ }

// MknodIn creates a file that is not a directory.
type MknodIn struct {
	InHeader
	Mode    uint32
	Rdev    uint32
	Umask   uint32
	Padding uint32
}

// MkdirIn creates a directory.
type MkdirIn struct {
	InHeader
	Mode  uint32
	Umask uint32
}

// RenameIn moves a name to the directory Newdir. Flags are those of
// renameat2(2): RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4.
type RenameIn struct {
	InHeader
	Newdir  uint64
	Flags   uint32
	Padding uint32
}

// LinkIn gives the node Oldnodeid another name; NodeId is the directory.
type LinkIn struct {
	InHeader
	Oldnodeid uint64
}

// OpenIn opens a file or a directory. Mode holds the protocol's open_flags
// (OPEN_KILL_SUIDGID), not a file mode: its name is kept for compatibility.
type OpenIn struct {
	InHeader
	Flags uint32 // O_... of open(2)
	Mode  uint32
}

// CreateIn creates and opens a file.
type CreateIn struct {
	InHeader
	Flags     uint32 // O_... of open(2)
	Mode      uint32
	Umask     uint32
	OpenFlags uint32 // OPEN_KILL_SUIDGID
}

// ReadIn reads from a file or a directory. The answer has at most Size bytes;
// for a file fewer mean that it ends there.
type ReadIn struct {
	InHeader
	Fh        uint64
	Offset    uint64
	Size      uint32
	ReadFlags uint32 // READ_LOCKOWNER
	LockOwner uint64
	Flags     uint32 // O_... of the open file, as they are now
	Padding   uint32
}

// WriteIn writes to a file.
type WriteIn struct {
	InHeader
	Fh         uint64
	Offset     uint64
	Size       uint32
	WriteFlags uint32 // WRITE_CACHE, WRITE_LOCKOWNER, WRITE_KILL_SUIDGID
	LockOwner  uint64
	Flags      uint32 // O_... of the open file, as they are now
	Padding    uint32
}

// ReleaseIn gives a handle back. It comes once for each successful open.
type ReleaseIn struct {
	InHeader
	Fh           uint64
	Flags        uint32 // O_... of the open file
	ReleaseFlags uint32 // RELEASE_FLUSH, FUSE_RELEASE_FLOCK_UNLOCK
	LockOwner    uint64
}

// FlushIn comes at each close(2) of a descriptor; a handle can have several.
type FlushIn struct {
	InHeader
	Fh        uint64
	Unused    uint32
	Padding   uint32
	LockOwner uint64
}

// FsyncIn wants a file or directory on stable storage; FUSE_FSYNC_FDATASYNC
// in FsyncFlags wants its data only.
type FsyncIn struct {
	InHeader
	Fh         uint64
	FsyncFlags uint32
	Padding    uint32
}

// AccessIn asks whether the caller may read, write or execute.
type AccessIn struct {
	InHeader
	Mask    uint32 // R_OK, W_OK, X_OK
	Padding uint32
}

// SetXAttrIn sets an extended attribute. The last two fields are 0 unless
// CAP_SETXATTR_EXT was agreed on.
type SetXAttrIn struct {
	InHeader
	Size          uint32 // of the value, in bytes
	Flags         uint32 // XATTR_CREATE 1, XATTR_REPLACE 2
	SetXAttrFlags uint32 // SETXATTR_ACL_KILL_SGID
	Padding       uint32
}

// GetXAttrIn asks for an extended attribute or their list. Size 0 asks how
// large the answer is.
type GetXAttrIn struct {
	InHeader
	Size    uint32
	Padding uint32
}

// LkIn tests, sets or clears a lock.
type LkIn struct {
	InHeader
	Fh      uint64
	Owner   uint64 // who holds locks: not a process id
	Lk      FileLock
	LkFlags uint32 // LK_FLOCK
	Padding uint32
}

// FallocateIn is fallocate(2).
type FallocateIn struct {
	InHeader
	Fh      uint64
	Offset  uint64
	Length  uint64
	Mode    uint32
	Padding uint32
}

// LseekIn looks for data or a hole: Whence is SEEK_DATA 3 or SEEK_HOLE 4.
type LseekIn struct {
	InHeader
	Fh      uint64
	Offset  uint64
	Whence  uint32
	Padding uint32
}

// CopyFileRangeIn copies inside the file system. NodeId is the source.
type CopyFileRangeIn struct {
	InHeader
	FhIn      uint64
	OffIn     uint64
	NodeIdOut uint64
	FhOut     uint64
	OffOut    uint64
	Len       uint64
	Flags     uint64
}

// IoctlIn is a restricted ioctl(2): sizes follow from Cmd.
type IoctlIn struct {
	InHeader
	Fh      uint64
	Flags   uint32 // IOCTL_...
	Cmd     uint32
	Arg     uint64
	InSize  uint32 // bytes that come with the request
	OutSize uint32 // bytes that the reply may have
}

// StatxIn is statx(2).
type StatxIn struct {
	InHeader
	GetattrFlags uint32 // FUSE_GETATTR_FH
	_            uint32
	Fh           uint64
	SxFlags      uint32 // AT_STATX_... of statx(2)
	SxMask       uint32 // STATX_...: what the caller wants to know
}

// InterruptIn says that nobody waits for the request Unique any more.
type InterruptIn struct {
	InHeader
	Unique uint64
}

// PollIn asks which events a file is ready for. With
// FUSE_POLL_SCHEDULE_NOTIFY in Flags the kernel wants to be woken, by Kh, when
// that changes.
type PollIn struct {
	InHeader
	Fh     uint64
	Kh     uint64 // the kernel's name for whoever polls
	Flags  uint32
	Events uint32 // POLLIN, ...
}

// BmapIn asks where a block of a file lies on its device.
type BmapIn struct {
	InHeader
	Block     uint64
	Blocksize uint32
	Padding   uint32
}

// SyncfsIn is syncfs(2). Only block-device and virtiofs sessions send it.
type SyncfsIn struct {
	InHeader
	Padding uint64
}

// SetupMappingIn maps a part of a file into the window that a virtual
// machine sees (virtiofs with DAX).
type SetupMappingIn struct {
	InHeader
	Fh      uint64
	Foffset uint64 // in the file
	Len     uint64
	Flags   uint64 // FUSE_SETUPMAPPING_WRITE, FUSE_SETUPMAPPING_READ
	Moffset uint64 // in the window
}

// RemoveMappingOne is a part of the window that is no longer used.
type RemoveMappingOne struct {
	Moffset uint64
	Len     uint64
}

// NotifyRetrieveIn brings cached data that was asked for.
type NotifyRetrieveIn struct {
	InHeader
	Dummy1 uint64
	Offset uint64
	Size   uint32
	Dummy2 uint32
	Dummy3 uint64
	Dummy4 uint64
}
