package fuse

import (
	"os"
	"syscall"
)

// Numbers of the protocol that file systems name.
const (
	FUSE_ROOT_ID     = 1          // node id of the root
	FUSE_UNKNOWN_INO = 0xffffffff // inode number of an entry whose own is not known

	CUSE_UNRESTRICTED_IOCTL = (1 << 0)
	CUSE_INIT_INFO_MAX      = 4096
	CUSE_INIT               = 4096

	FUSE_LK_FLOCK             = (1 << 0)
	FUSE_RELEASE_FLUSH        = (1 << 0)
	FUSE_RELEASE_FLOCK_UNLOCK = (1 << 1)
	FUSE_IOCTL_MAX_IOV        = 256
	FUSE_POLL_SCHEDULE_NOTIFY = (1 << 0)
	FUSE_FSYNC_FDATASYNC      = (1 << 0)
	FUSE_SETUPMAPPING_WRITE   = (1 << 0)
	FUSE_SETUPMAPPING_READ    = (1 << 1)

	S_IFDIR = syscall.S_IFDIR
	S_IFREG = syscall.S_IFREG
	S_IFLNK = syscall.S_IFLNK
	S_IFIFO = syscall.S_IFIFO

	// O_ANYWRITE has the open flags that can change a file.
	O_ANYWRITE = uint32(os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_TRUNC)

	// FMODE_EXEC is set in OpenIn.Flags when a program is to be executed.
	FMODE_EXEC = 0x20

	// MAX_KERNEL_WRITE is the largest WRITE and READ, in bytes, that the
	// kernel sends unless the administrator raises fs.fuse.max_pages_limit.
	MAX_KERNEL_WRITE = 1024 * 1024
)

// What SETATTR asks for: bits of SetAttrIn.Valid.
const (
	FATTR_MODE         = (1 << 0)
	FATTR_UID          = (1 << 1)
	FATTR_GID          = (1 << 2)
	FATTR_SIZE         = (1 << 3)
	FATTR_ATIME        = (1 << 4)
	FATTR_MTIME        = (1 << 5)
	FATTR_FH           = (1 << 6) // Fh is valid
	FATTR_ATIME_NOW    = (1 << 7)
	FATTR_MTIME_NOW    = (1 << 8)
	FATTR_LOCKOWNER    = (1 << 9)
	FATTR_CTIME        = (1 << 10)
	FATTR_KILL_SUIDGID = (1 << 11) // clear set-uid and set-gid as a write would
)

// Single flags of requests.
const (
	RELEASE_FLUSH          = (1 << 0) // ReleaseIn.ReleaseFlags: flush before closing
	OPEN_KILL_SUIDGID      = (1 << 0) // OpenIn.Mode, CreateIn.OpenFlags: truncation clears set-uid
	READ_LOCKOWNER         = (1 << 1) // ReadIn.ReadFlags: LockOwner is valid
	WRITE_CACHE            = (1 << 0) // WriteIn.WriteFlags: from the page cache; Fh and caller are a guess
	WRITE_LOCKOWNER        = (1 << 1) // WriteIn.WriteFlags: LockOwner is valid
	WRITE_KILL_SUIDGID     = (1 << 2) // WriteIn.WriteFlags: clear set-uid and set-gid
	LK_FLOCK               = (1 << 0) // LkIn.LkFlags: flock(2), not fcntl(2)
	FUSE_GETATTR_FH        = (1 << 0) // GetAttrIn.Flags: Fh is valid
	SETXATTR_ACL_KILL_SGID = (1 << 0) // SetXAttrIn.SetXAttrFlags: clear set-gid
	EXPIRE_ONLY            = (1 << 0) // NotifyInvalEntryOut.Flags: revalidate, do not drop
)

// How an open file is treated: bits of OpenOut.OpenFlags.
const (
	FOPEN_DIRECT_IO              = (1 << 0) // no page cache: each read and write comes here
	FOPEN_KEEP_CACHE             = (1 << 1) // keep what earlier opens have cached
	FOPEN_NONSEEKABLE            = (1 << 2)
	FOPEN_CACHE_DIR              = (1 << 3) // the kernel may cache the listing of this directory
	FOPEN_STREAM                 = (1 << 4) // no file position at all
	FOPEN_NOFLUSH                = (1 << 5) // no FLUSH at close, unless writes are cached
	FOPEN_PARALLEL_DIRECT_WRITES = (1 << 6) // with FOPEN_DIRECT_IO: writes in parallel
	FOPEN_PASSTHROUGH            = (1 << 7) // data goes to the file BackingID without us
)

// What kernel and server can agree on at INIT.
const (
	CAP_ASYNC_READ      = (1 << 0)
	CAP_POSIX_LOCKS     = (1 << 1)
	CAP_FILE_OPS        = (1 << 2)
	CAP_ATOMIC_O_TRUNC  = (1 << 3)
	CAP_EXPORT_SUPPORT  = (1 << 4)
	CAP_BIG_WRITES      = (1 << 5)
	CAP_DONT_MASK       = (1 << 6)
	CAP_SPLICE_WRITE    = (1 << 7)
	CAP_SPLICE_MOVE     = (1 << 8)
	CAP_SPLICE_READ     = (1 << 9)
	CAP_FLOCK_LOCKS     = (1 << 10)
	CAP_IOCTL_DIR       = (1 << 11)
	CAP_AUTO_INVAL_DATA = (1 << 12)
	CAP_READDIRPLUS     = (1 << 13)
	// CAP_READDIRPLUS_AUTO lets the kernel use READDIRPLUS only where it
	// expects lookups to follow.
	CAP_READDIRPLUS_AUTO    = (1 << 14)
	CAP_ASYNC_DIO           = (1 << 15)
	CAP_WRITEBACK_CACHE     = (1 << 16)
	CAP_NO_OPEN_SUPPORT     = (1 << 17)
	CAP_PARALLEL_DIROPS     = (1 << 18)
	CAP_HANDLE_KILLPRIV     = (1 << 19)
	CAP_POSIX_ACL           = (1 << 20)
	CAP_ABORT_ERROR         = (1 << 21)
	CAP_MAX_PAGES           = (1 << 22)
	CAP_CACHE_SYMLINKS      = (1 << 23)
	CAP_NO_OPENDIR_SUPPORT  = (1 << 24)
	CAP_EXPLICIT_INVAL_DATA = (1 << 25)
	CAP_MAP_ALIGNMENT       = (1 << 26)
	CAP_SUBMOUNTS           = (1 << 27)
	CAP_HANDLE_KILLPRIV_V2  = (1 << 28)
	CAP_SETXATTR_EXT        = (1 << 29)
	CAP_INIT_EXT            = (1 << 30)
	CAP_INIT_RESERVED       = (1 << 31)

	// CAP_RENAME_SWAP is a flag of other systems; Linux always can.
	CAP_RENAME_SWAP = 0x0

	CAP_SECURITY_CTX         = (1 << 32)
	CAP_HAS_INODE_DAX        = (1 << 33)
	CAP_CREATE_SUPP_GROUP    = (1 << 34)
	CAP_HAS_EXPIRE_ONLY      = (1 << 35)
	CAP_DIRECT_IO_ALLOW_MMAP = (1 << 36)
	CAP_PASSTHROUGH          = (1 << 37)
	CAP_NO_EXPORT_SUPPORT    = (1 << 38)
	CAP_HAS_RESEND           = (1 << 39)
	CAP_ALLOW_IDMAP          = (1 << 40)
	CAP_OVER_IO_URING        = (1 << 41)
	CAP_REQUEST_TIMEOUT      = (1 << 42)
)

// Flags of IOCTL: IoctlIn.Flags and IoctlOut.Flags.
const (
	IOCTL_COMPAT       = (1 << 0)
	IOCTL_UNRESTRICTED = (1 << 1)
	IOCTL_RETRY        = (1 << 2)
	IOCTL_32BIT        = (1 << 3)
	IOCTL_DIR          = (1 << 4)
)

// What ACCESS asks for: bits of AccessIn.Mask.
const (
	X_OK = 1
	W_OK = 2
	R_OK = 4
	F_OK = 0
)

// What an Attr is besides its mode: bits of Attr.Flags.
const (
	ATTR_SUBMOUNT = (1 << 0) // a mount point of its own (CAP_SUBMOUNTS)
	ATTR_DAX      = (1 << 1) // mapped straight to the host's memory (CAP_HAS_INODE_DAX)
)

// The notifications, negated: arguments of [InitIn.SupportsNotify].
const (
	NOTIFY_POLL           = -1
	NOTIFY_INVAL_INODE    = -2
	NOTIFY_INVAL_ENTRY    = -3
	NOTIFY_STORE_CACHE    = -4
	NOTIFY_RETRIEVE_CACHE = -5
	NOTIFY_DELETE         = -6
	NOTIFY_RESEND         = -7
	NOTIFY_INC_EPOCH      = -8
	NOTIFY_PRUNE          = -9
)
