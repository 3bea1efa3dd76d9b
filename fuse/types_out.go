package fuse

// OpenOut answers OPEN, OPENDIR and, with an EntryOut, CREATE.
type OpenOut struct {
	Fh        uint64 // any number; it comes back with each use of the open file
	OpenFlags uint32 // FOPEN_...
	BackingID int32  // with FOPEN_PASSTHROUGH: from Server.RegisterBackingFd
}

// CreateOut answers CREATE and TMPFILE.
type CreateOut struct {
	EntryOut
	OpenOut
}

// WriteOut answers WRITE and COPY_FILE_RANGE.
type WriteOut struct {
	Size    uint32
	Padding uint32
}

// GetXAttrOut answers GETXATTR and LISTXATTR where only the size was asked.
type GetXAttrOut struct {
	Size    uint32
	Padding uint32
}

// StatfsOut answers STATFS (fuse_kstatfs, 80 bytes).
type StatfsOut struct {
	Blocks  uint64 // of Frsize bytes
	Bfree   uint64
	Bavail  uint64
	Files   uint64
	Ffree   uint64
	Bsize   uint32
	NameLen uint32
	Frsize  uint32
	Padding uint32
	Spare   [6]uint32
}

// LkOut answers GETLK: the lock that is in the way, or F_UNLCK.
type LkOut struct {
	Lk FileLock
}

// LseekOut answers LSEEK.
type LseekOut struct {
	Offset uint64
}

// CopyFileRangeOut answers COPY_FILE_RANGE_64.
type CopyFileRangeOut struct {
	BytesCopied uint64
}

// IoctlOut answers IOCTL, before the data.
type IoctlOut struct {
	Result  int32
	Flags   uint32
	InIovs  uint32
	OutIovs uint32
}

// PollOut answers POLL.
type PollOut struct {
	Revents uint32
	Padding uint32
}

// BmapOut answers BMAP.
type BmapOut struct {
	Block uint64
}

// NotifyInvalInodeOut drops cached attributes and data.
type NotifyInvalInodeOut struct {
	Ino    uint64
	Off    int64 // negative: attributes only
	Length int64 // 0 or less: to the end
}

// NotifyInvalEntryOut drops a cached name, which follows with a NUL.
type NotifyInvalEntryOut struct {
	Parent  uint64
	NameLen uint32
	Flags   uint32 // EXPIRE_ONLY
}

// NotifyInvalDeleteOut says that a name, which follows with a NUL, is gone.
type NotifyInvalDeleteOut struct {
	Parent  uint64
	Child   uint64
	NameLen uint32
	Padding uint32
}

// NotifyStoreOut puts the data that follows into the page cache.
type NotifyStoreOut struct {
	Nodeid  uint64
	Offset  uint64
	Size    uint32
	Padding uint32
}

// NotifyRetrieveOut asks for cached data.
type NotifyRetrieveOut struct {
	NotifyUnique uint64 // comes back as the id of the answer
	Nodeid       uint64
	Offset       uint64
	Size         uint32
	Padding      uint32
}

// NotifyPruneOut begins a list of Count node ids that the kernel should
// forget if nobody uses them.
type NotifyPruneOut struct {
	Count uint32
	_     uint32
	_     uint64
}

// BackingMap registers an open file for passthrough.
type BackingMap struct {
	Fd    int32
	Flags uint32 // must be 0
	_     uint64
}
