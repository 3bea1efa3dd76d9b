package wire

// The protocol version that this package describes. The smaller minor of both
// sides counts.
const (
	KernelVersion      = 7
	KernelMinorVersion = 45
)

// RootID is the node id of the root directory of every session.
const RootID = 1

// MinReadBuffer is the least number of bytes that a read of the device must
// offer: FUSE_MIN_READ_BUFFER.
const MinReadBuffer = 8192

// UniqueResend marks, in the id of a request, one that the kernel hands out
// for the second time after [NotifyResend] (7.40).
const UniqueResend = 1 << 63

// UniqueInterrupt is set in the id of an INTERRUPT; the id without it is that
// of the request to be interrupted.
const UniqueInterrupt = 1

// InitFlag is a bit of the INIT negotiation. Bits 0 to 31 travel in the field
// flags, 32 to 63 in flags2, which counts only if [InitExt] is set too.
type InitFlag uint64

// The flags of INIT. The kernel offers, the server echoes what it wants.
const (
	InitAsyncRead         InitFlag = 1 << 0  // READs of one file in flight together and out of order
	InitPosixLocks        InitFlag = 1 << 1  // GETLK, SETLK and SETLKW are sent
	InitFileOps           InitFlag = 1 << 2  // never used by Linux
	InitAtomicOTrunc      InitFlag = 1 << 3  // O_TRUNC comes with OPEN, not as a SETATTR
	InitExportSupport     InitFlag = 1 << 4  // LOOKUP of "." and "..", for NFS handles
	InitBigWrites         InitFlag = 1 << 5  // WRITE of more than a page
	InitDontMask          InitFlag = 1 << 6  // the kernel does not apply the umask
	InitSpliceWrite       InitFlag = 1 << 7  // the device takes splice
	InitSpliceMove        InitFlag = 1 << 8  // the device takes splice with moved pages
	InitSpliceRead        InitFlag = 1 << 9  // the device gives by splice
	InitFlockLocks        InitFlag = 1 << 10 // flock comes as SETLK with LkFlock
	InitHasIoctlDir       InitFlag = 1 << 11 // ioctl on directories
	InitAutoInvalData     InitFlag = 1 << 12 // cached pages dropped when size or mtime change
	InitDoReaddirplus     InitFlag = 1 << 13 // READDIRPLUS in place of READDIR
	InitReaddirplusAuto   InitFlag = 1 << 14 // the kernel picks between the two
	InitAsyncDIO          InitFlag = 1 << 15 // direct I/O is submitted asynchronously
	InitWritebackCache    InitFlag = 1 << 16 // writes stay in the page cache for a while
	InitNoOpenSupport     InitFlag = 1 << 17 // ENOSYS to OPEN: no opens are needed
	InitParallelDirops    InitFlag = 1 << 18 // LOOKUP and READDIR of one directory in parallel
	InitHandleKillpriv    InitFlag = 1 << 19 // the server clears set-uid bits
	InitPosixACL          InitFlag = 1 << 20 // the kernel enforces POSIX ACLs
	InitAbortError        InitFlag = 1 << 21 // reads after an abort give ECONNABORTED
	InitMaxPages          InitFlag = 1 << 22 // the field max_pages counts
	InitCacheSymlinks     InitFlag = 1 << 23 // targets of symbolic links are cached
	InitNoOpendirSupport  InitFlag = 1 << 24 // ENOSYS to OPENDIR: no opens of directories are needed
	InitExplicitInvalData InitFlag = 1 << 25 // cached data is dropped on request only
	InitMapAlignment      InitFlag = 1 << 26 // the field map_alignment counts (DAX)
	InitSubmounts         InitFlag = 1 << 27 // entries may be mount points of their own
	InitHandleKillprivV2  InitFlag = 1 << 28 // set-uid bits are cleared where a request says so
	InitSetxattrExt       InitFlag = 1 << 29 // SETXATTR's struct has 16 bytes
	InitExt               InitFlag = 1 << 30 // flags2 counts
	InitReserved          InitFlag = 1 << 31 // must not be used
	InitSecurityCtx       InitFlag = 1 << 32 // security labels come with creating operations
	InitHasInodeDAX       InitFlag = 1 << 33 // DAX per inode
	InitCreateSuppGroup   InitFlag = 1 << 34 // a supplementary group comes with creating operations
	InitHasExpireOnly     InitFlag = 1 << 35 // NotifyInvalEntry may merely expire
	InitDirectIOAllowMmap InitFlag = 1 << 36 // shared mappings of direct-I/O files
	InitPassthrough       InitFlag = 1 << 37 // backing files
	InitNoExportSupport   InitFlag = 1 << 38 // no NFS handles at all
	InitHasResend         InitFlag = 1 << 39 // NotifyResend is understood
	InitAllowIDMap        InitFlag = 1 << 40 // the mount may be id-mapped
	InitOverIOUring       InitFlag = 1 << 41 // requests can come over io_uring
	InitRequestTimeout    InitFlag = 1 << 42 // the field request_timeout counts
	InitHasIOUringBufPool InitFlag = 1 << 43 // buffer pools for io_uring (7.46)
)

// What the kernel may do with an open file: the open_flags of OPEN's reply.
const (
	FopenDirectIO             = 1 << 0
	FopenKeepCache            = 1 << 1
	FopenNonseekable          = 1 << 2
	FopenCacheDir             = 1 << 3
	FopenStream               = 1 << 4
	FopenNoflush              = 1 << 5
	FopenParallelDirectWrites = 1 << 6
	FopenPassthrough          = 1 << 7
)

// Single flags of requests and replies.
const (
	GetattrFh           = 1 << 0 // GETATTR and STATX: fh is valid
	OpenKillSuidgid     = 1 << 0 // OPEN and CREATE
	ReleaseFlush        = 1 << 0
	ReleaseFlockUnlock  = 1 << 1
	ReadLockowner       = 1 << 1
	WriteCache          = 1 << 0 // from the page cache: fh, uid and pid are a guess
	WriteLockowner      = 1 << 1
	WriteKillSuidgid    = 1 << 2
	LkFlock             = 1 << 0
	FsyncDatasync       = 1 << 0
	SetxattrACLKillSgid = 1 << 0
	PollScheduleNotify  = 1 << 0
	AttrSubmount        = 1 << 0
	AttrDAX             = 1 << 1
	ExpireOnly          = 1 << 0 // NotifyInvalEntry
	SetupmappingWrite   = 1 << 0
	SetupmappingRead    = 1 << 1
)

// Bits of SETATTR's field valid.
const (
	FattrMode        = 1 << 0
	FattrUID         = 1 << 1
	FattrGID         = 1 << 2
	FattrSize        = 1 << 3
	FattrAtime       = 1 << 4
	FattrMtime       = 1 << 5
	FattrFh          = 1 << 6
	FattrAtimeNow    = 1 << 7
	FattrMtimeNow    = 1 << 8
	FattrLockowner   = 1 << 9
	FattrCtime       = 1 << 10
	FattrKillSuidgid = 1 << 11
)

// Flags of IOCTL. Only device servers (CUSE) get unrestricted ones.
const (
	IoctlCompat       = 1 << 0
	IoctlUnrestricted = 1 << 1
	IoctlRetry        = 1 << 2
	Ioctl32Bit        = 1 << 3
	IoctlDir          = 1 << 4
	IoctlCompatX32    = 1 << 5

	IoctlMaxIov = 256
)
