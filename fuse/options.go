package fuse

import (
	"log"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
)

// MountOptions says how to mount and serve. The zero value, and nil, are good
// defaults.
type MountOptions struct {
	// AllowOther lets other users in; root must permit it to ordinary users
	// in /etc/fuse.conf.
	AllowOther bool

	// Options are mount options as after "-o", such as "ro" or
	// "default_permissions".
	Options []string

	// MaxBackground is how many requests (readahead, asynchronous I/O) the
	// kernel may have under way without a waiting caller. 0 means 12.
	MaxBackground int

	// MaxInflightRequestBytes bounds the memory of requests being served;
	// more wait in the kernel. 0 means no bound besides that of the channel.
	MaxInflightRequestBytes int

	// CongestionThreshold is the number of background requests from which
	// on the kernel holds back. 0 means three quarters of MaxBackground.
	CongestionThreshold int

	// MaxWrite is the largest WRITE, and READ, in bytes. 0 means
	// DefaultMaxWrite, 1 MiB. More is possible where the administrator has
	// raised fs.fuse.max_pages_limit; too much is cut to what is possible.
	MaxWrite int

	// MaxReadAhead is how far, in bytes, the kernel reads ahead of a
	// sequential reader. 0 means as far as the kernel offers. A larger
	// number than that is set after mounting where permissions allow it.
	MaxReadAhead int

	// IgnoreSecurityLabels answers reads of security.* extended attributes,
	// which come with each execution and write, without asking the file
	// system: ENODATA.
	IgnoreSecurityLabels bool

	// RememberInodes keeps nodes when the kernel forgets them, as exports
	// over NFS need. It is for the layer that owns the nodes, package fs.
	RememberInodes bool

	// FsName is the source of the mount, the first column of df. Empty means
	// the file system's String.
	FsName string

	// Name is the type of the mount, as in fuse.Name.
	Name string

	// SingleThreaded calls the file system's methods one at a time.
	SingleThreaded bool

	// DisableXAttrs answers all operations on extended attributes without
	// asking the file system, so that the kernel asks once only.
	DisableXAttrs bool

	// Debug logs every request and reply.
	Debug bool

	// Logger gets what is to be logged; nil means the standard logger.
	Logger *log.Logger

	// EnableLocks has the file system asked about locks. Otherwise they work
	// in the kernel, among the callers on this machine.
	EnableLocks bool

	// EnableSymlinkCaching lets the kernel cache the targets of symbolic
	// links.
	EnableSymlinkCaching bool

	// ExplicitDataCacheControl keeps cached data until it is invalidated by
	// a notification, whatever size and time of modification say. Otherwise
	// the kernel drops a file's data when it sees others of these, and asks
	// for attributes that have expired before each read: a file system whose
	// content changes only through the kernel spares that by having
	// CAP_AUTO_INVAL_DATA among DisabledCapabilities.
	ExplicitDataCacheControl bool

	// SyncRead lets only one READ of a file be under way at a time.
	SyncRead bool

	// DirectMount mounts with system calls first and asks fusermount3 only
	// if that is refused. It is what happens anyway.
	DirectMount bool

	// DirectMountStrict never asks fusermount3.
	DirectMountStrict bool

	// DirectMountFlags are flags of mount(2), such as MS_NOATIME. 0 means
	// MS_NOSUID and MS_NODEV.
	DirectMountFlags uintptr

	// EnableAcl has the kernel enforce POSIX ACLs, kept in the extended
	// attributes system.posix_acl_access and system.posix_acl_default.
	EnableAcl bool

	// DisableReadDirPlus has directories listed without looking the entries
	// up.
	DisableReadDirPlus bool

	// DisableSplice never uses splice(2).
	DisableSplice bool

	// PanicHandler is called when a method of the file system panicked, with
	// the recovered value, and says what to answer. nil logs the stack and
	// answers EIO. The server goes on in either case.
	PanicHandler func(any) Status

	// MaxStackDepth is how deep a backing file of a passthrough file may
	// stand: 1, which 0 means too, for one on an ordinary file system, 2 for
	// one on another stacked one. DisabledCapabilities can turn passthrough
	// off.
	MaxStackDepth int

	// IDMappedMount lets the mount be id-mapped. It needs the option
	// default_permissions.
	IDMappedMount bool

	// DisabledCapabilities are CAP_... flags not to agree to.
	DisabledCapabilities uint64

	// ExtraCapabilities are CAP_... flags to agree to, if the kernel offers
	// them, besides those that other options imply.
	ExtraCapabilities uint64

	// What follows is not in go-fuse.

	// WritebackCache lets writes stay in the page cache for a while. Reads
	// may then come for files opened for writing only; size and time of
	// modification are the kernel's. It excludes passthrough.
	WritebackCache bool

	// Transport chooses how requests arrive. The zero value picks what the
	// kernel offers and what is faster; Server.Transport says what and why.
	Transport Transport

	// CloneFd gives each reader of the device a descriptor of its own.
	CloneFd bool

	// Readers bounds how many goroutines wait for requests at the device.
	// 0 lets the number adapt to the load.
	Readers int

	// RingDepth is how many requests each processor's ring can hold. 0 means
	// a default that suits MaxWrite.
	RingDepth int

	// RequestTimeout, in whole seconds, has the kernel abort the session
	// when a request stays unanswered so long. 0 means never.
	RequestTimeout time.Duration

	// UnmountTimeout is how long Unmount waits for requests under way, and
	// then for the kernel to let go, before it forces the end. 0 means 10
	// seconds.
	UnmountTimeout time.Duration

	// Middleware wraps the handler that calls the file system, the first one
	// outermost.
	Middleware []Middleware

	// Limits bounds what the operations of each class use.
	Limits map[Class]Limit

	// Interrupts says which INTERRUPTs close a request's cancel channel.
	Interrupts InterruptMode

	// LogSlow logs requests that took longer; 0 = none.
	LogSlow time.Duration

	// WrapChannel, if set, may put something between the kernel and the
	// server: a recorder of the traffic (fusetest.Record), a fault injector.
	WrapChannel func(channel.Channel) channel.Channel
}

// DefaultMaxWrite is the largest WRITE and READ, in bytes, of a server whose
// options name none.
const DefaultMaxWrite = 1 << 20

// Transport is a way for requests to arrive.
type Transport string

// The transports of a mount on this machine.
const (
	TransportAuto   Transport = ""       // what is possible and faster
	TransportDevice Transport = "device" // read and write on /dev/fuse
	TransportURing  Transport = "uring"  // io_uring, Linux 6.14 and newer
)
