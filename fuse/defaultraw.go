package fuse

// NewDefaultRawFileSystem returns a file system that implements nothing: it
// answers every operation with ENOSYS, opens with OK and keeps quiet about
// the rest. Embed it, so that yours has all methods.
func NewDefaultRawFileSystem() RawFileSystem { return defaultRawFileSystem{} }

type defaultRawFileSystem struct{}

var _ RawFileSystem = defaultRawFileSystem{}

func (defaultRawFileSystem) Init(*Server)   {}
func (defaultRawFileSystem) OnUnmount()     {}
func (defaultRawFileSystem) SetDebug(bool)  {}
func (defaultRawFileSystem) String() string { return "default" }

func (defaultRawFileSystem) Forget(nodeid, nlookup uint64)       {}
func (defaultRawFileSystem) Release(<-chan struct{}, *ReleaseIn) {}
func (defaultRawFileSystem) ReleaseDir(*ReleaseIn)               {}

func (defaultRawFileSystem) Open(<-chan struct{}, *OpenIn, *OpenOut) Status    { return OK }
func (defaultRawFileSystem) OpenDir(<-chan struct{}, *OpenIn, *OpenOut) Status { return OK }
func (defaultRawFileSystem) Flush(<-chan struct{}, *FlushIn) Status            { return OK }

func (defaultRawFileSystem) Lookup(<-chan struct{}, *InHeader, string, *EntryOut) Status {
	return ENOSYS
}
func (defaultRawFileSystem) GetAttr(<-chan struct{}, *GetAttrIn, *AttrOut) Status { return ENOSYS }
func (defaultRawFileSystem) SetAttr(<-chan struct{}, *SetAttrIn, *AttrOut) Status { return ENOSYS }

func (defaultRawFileSystem) Mknod(<-chan struct{}, *MknodIn, string, *EntryOut) Status { return ENOSYS }
func (defaultRawFileSystem) Mkdir(<-chan struct{}, *MkdirIn, string, *EntryOut) Status { return ENOSYS }
func (defaultRawFileSystem) Unlink(<-chan struct{}, *InHeader, string) Status          { return ENOSYS }
func (defaultRawFileSystem) Rmdir(<-chan struct{}, *InHeader, string) Status           { return ENOSYS }
func (defaultRawFileSystem) Rename(<-chan struct{}, *RenameIn, string, string) Status  { return ENOSYS }
func (defaultRawFileSystem) Link(<-chan struct{}, *LinkIn, string, *EntryOut) Status   { return ENOSYS }
func (defaultRawFileSystem) Symlink(<-chan struct{}, *InHeader, string, string, *EntryOut) Status {
	return ENOSYS
}
func (defaultRawFileSystem) Readlink(<-chan struct{}, *InHeader) ([]byte, Status) { return nil, ENOSYS }
func (defaultRawFileSystem) Access(<-chan struct{}, *AccessIn) Status             { return ENOSYS }

func (defaultRawFileSystem) GetXAttr(<-chan struct{}, *InHeader, string, []byte) (uint32, Status) {
	return 0, ENOSYS
}
func (defaultRawFileSystem) ListXAttr(<-chan struct{}, *InHeader, []byte) (uint32, Status) {
	return 0, ENOSYS
}
func (defaultRawFileSystem) SetXAttr(<-chan struct{}, *SetXAttrIn, string, []byte) Status {
	return ENOSYS
}
func (defaultRawFileSystem) RemoveXAttr(<-chan struct{}, *InHeader, string) Status { return ENOSYS }

func (defaultRawFileSystem) Create(<-chan struct{}, *CreateIn, string, *CreateOut) Status {
	return ENOSYS
}
func (defaultRawFileSystem) Tmpfile(<-chan struct{}, *CreateIn, *CreateOut) Status { return ENOSYS }

func (defaultRawFileSystem) Read(<-chan struct{}, *ReadIn, []byte) (ReadResult, Status) {
	return nil, ENOSYS
}
func (defaultRawFileSystem) Lseek(<-chan struct{}, *LseekIn, *LseekOut) Status { return ENOSYS }
func (defaultRawFileSystem) GetLk(<-chan struct{}, *LkIn, *LkOut) Status       { return ENOSYS }
func (defaultRawFileSystem) SetLk(<-chan struct{}, *LkIn) Status               { return ENOSYS }
func (defaultRawFileSystem) SetLkw(<-chan struct{}, *LkIn) Status              { return ENOSYS }

func (defaultRawFileSystem) Write(<-chan struct{}, *WriteIn, []byte) (uint32, Status) {
	return 0, ENOSYS
}
func (defaultRawFileSystem) Writev(<-chan struct{}, *WriteIn, [][]byte) (uint32, Status) {
	return 0, ENOSYS
}

func (defaultRawFileSystem) CopyFileRange(<-chan struct{}, *CopyFileRangeIn) (uint32, Status) {
	return 0, ENOSYS
}
func (defaultRawFileSystem) Ioctl(<-chan struct{}, *IoctlIn, []byte, *IoctlOut, []byte) Status {
	return ENOSYS
}
func (defaultRawFileSystem) Fsync(<-chan struct{}, *FsyncIn) Status         { return ENOSYS }
func (defaultRawFileSystem) Fallocate(<-chan struct{}, *FallocateIn) Status { return ENOSYS }

func (defaultRawFileSystem) ReadDir(<-chan struct{}, *ReadIn, *DirEntryList) Status { return ENOSYS }
func (defaultRawFileSystem) ReadDirPlus(<-chan struct{}, *ReadIn, *DirEntryList) Status {
	return ENOSYS
}
func (defaultRawFileSystem) FsyncDir(<-chan struct{}, *FsyncIn) Status            { return ENOSYS }
func (defaultRawFileSystem) StatFs(<-chan struct{}, *InHeader, *StatfsOut) Status { return ENOSYS }
func (defaultRawFileSystem) Statx(<-chan struct{}, *StatxIn, *StatxOut) Status    { return ENOSYS }
