package fuse

// RawFileSystem is a file system as the kernel sees it: inodes with numbers,
// no paths. Embed what [NewDefaultRawFileSystem] returns and write the methods
// that you need. For a tree of Go objects in place of numbers see package fs.
//
// Methods run concurrently. What they get (inputs, names, buffers) is theirs
// until they return; strings may be kept. They answer with a [Status]; outputs
// count only if it is OK, and are zero when the method is called. Node ids are
// chosen by the file system: the root is 1 (FUSE_ROOT_ID), any other becomes
// known to the kernel through an [EntryOut] and stays so until as many
// references have been forgotten as were given.
//
// The channel cancel is closed when the kernel interrupts the request; it is
// nil where that cannot happen. A method that waits for something outside
// should watch it and answer EINTR.
//
// ENOSYS is special: the kernel remembers it for some operations and answers
// them itself from then on, for the whole mount (see package documentation).
//
// No method will ever be added to this interface. Further operations are
// optional interfaces, which the server looks for once, in [NewServer].
type RawFileSystem interface {
	// String names the file system in logs.
	String() string

	// SetDebug switches the file system's own debug output.
	SetDebug(debug bool)

	// Lookup finds name in the directory header.NodeId. Each success adds a
	// reference to out.NodeId.
	Lookup(cancel <-chan struct{}, header *InHeader, name string, out *EntryOut) (status Status)

	// Forget takes nlookup references away. It must not block, and may come
	// while the node is looked up again.
	Forget(nodeid, nlookup uint64)

	// Attributes.
	GetAttr(cancel <-chan struct{}, input *GetAttrIn, out *AttrOut) (code Status)
	SetAttr(cancel <-chan struct{}, input *SetAttrIn, out *AttrOut) (code Status)

	// The tree. Those with an EntryOut add a reference to its node.
	Mknod(cancel <-chan struct{}, input *MknodIn, name string, out *EntryOut) (code Status)
	Mkdir(cancel <-chan struct{}, input *MkdirIn, name string, out *EntryOut) (code Status)
	Unlink(cancel <-chan struct{}, header *InHeader, name string) (code Status)
	Rmdir(cancel <-chan struct{}, header *InHeader, name string) (code Status)
	Rename(cancel <-chan struct{}, input *RenameIn, oldName string, newName string) (code Status)
	Link(cancel <-chan struct{}, input *LinkIn, filename string, out *EntryOut) (code Status)
	Symlink(cancel <-chan struct{}, header *InHeader, pointedTo string, linkName string, out *EntryOut) (code Status)
	Readlink(cancel <-chan struct{}, header *InHeader) (out []byte, code Status)

	// Access is not called for mounts with the option default_permissions,
	// and never again after ENOSYS.
	Access(cancel <-chan struct{}, input *AccessIn) (code Status)

	// GetXAttr writes the value to dest and returns its size. If dest is too
	// small it returns the size and ERANGE; an empty dest asks for the size.
	GetXAttr(cancel <-chan struct{}, header *InHeader, attr string, dest []byte) (sz uint32, code Status)

	// ListXAttr is like GetXAttr for the names, each with a NUL behind it.
	ListXAttr(cancel <-chan struct{}, header *InHeader, dest []byte) (uint32, Status)

	// SetXAttr sets an attribute; data is the server's.
	SetXAttr(cancel <-chan struct{}, input *SetXAttrIn, attr string, data []byte) Status

	// RemoveXAttr removes an attribute, or answers ENODATA.
	RemoveXAttr(cancel <-chan struct{}, header *InHeader, attr string) (code Status)

	// Files. Create adds a reference and opens; after ENOSYS the kernel uses
	// Mknod and Open. Tmpfile makes a file without a name.
	Create(cancel <-chan struct{}, input *CreateIn, name string, out *CreateOut) (code Status)
	Tmpfile(cancel <-chan struct{}, input *CreateIn, out *CreateOut) (code Status)
	Open(cancel <-chan struct{}, input *OpenIn, out *OpenOut) (status Status)

	// Read returns data, for which it may use buf, of input.Size bytes.
	Read(cancel <-chan struct{}, input *ReadIn, buf []byte) (ReadResult, Status)
	Lseek(cancel <-chan struct{}, in *LseekIn, out *LseekOut) Status

	// Locks. SetLkw may wait; it must answer EINTR when cancel is closed.
	GetLk(cancel <-chan struct{}, input *LkIn, out *LkOut) (code Status)
	SetLk(cancel <-chan struct{}, input *LkIn) (code Status)
	SetLkw(cancel <-chan struct{}, input *LkIn) (code Status)

	// Release ends the life of a handle: once for each successful Open or
	// Create, after all other uses of it have been answered.
	Release(cancel <-chan struct{}, input *ReleaseIn)

	// Write writes data, which is the server's, at input.Offset.
	Write(cancel <-chan struct{}, input *WriteIn, data []byte) (written uint32, code Status)

	// Writev is asked in place of Write where the data came in several
	// pieces. After ENOSYS the pieces are joined and Write is called.
	Writev(cancel <-chan struct{}, input *WriteIn, data [][]byte) (written uint32, code Status)
	CopyFileRange(cancel <-chan struct{}, input *CopyFileRangeIn) (written uint32, code Status)

	// Ioctl gets inbuf and fills outbuf, whose sizes follow from input.Cmd.
	Ioctl(cancel <-chan struct{}, input *IoctlIn, inbuf []byte, output *IoctlOut, outbuf []byte) (code Status)

	// Flush comes at each close(2), whose result it gives.
	Flush(cancel <-chan struct{}, input *FlushIn) Status
	Fsync(cancel <-chan struct{}, input *FsyncIn) (code Status)
	Fallocate(cancel <-chan struct{}, input *FallocateIn) (code Status)

	// Directories. ReadDir and ReadDirPlus go on at input.Offset, which is 0
	// or the Off of an entry that was listed earlier.
	OpenDir(cancel <-chan struct{}, input *OpenIn, out *OpenOut) (status Status)
	ReadDir(cancel <-chan struct{}, input *ReadIn, out *DirEntryList) Status
	ReadDirPlus(cancel <-chan struct{}, input *ReadIn, out *DirEntryList) Status
	ReleaseDir(input *ReleaseIn)
	FsyncDir(cancel <-chan struct{}, input *FsyncIn) (code Status)

	StatFs(cancel <-chan struct{}, input *InHeader, out *StatfsOut) (code Status)

	// Statx tells more than GetAttr; after ENOSYS the kernel uses that.
	Statx(cancel <-chan struct{}, input *StatxIn, out *StatxOut) (code Status)

	// Init is called once, before any request, with the server that will
	// make them; notifications go through it.
	Init(*Server)

	// OnUnmount is called once, after the last request.
	OnUnmount()
}
