package wire

import "strconv"

// An Opcode says what a request asks for: enum fuse_opcode.
type Opcode uint32

// The operations of protocol 7.45. Numbers 7 and 19 were never used.
const (
	OpLookup          Opcode = 1
	OpForget          Opcode = 2 // no reply
	OpGetattr         Opcode = 3
	OpSetattr         Opcode = 4
	OpReadlink        Opcode = 5
	OpSymlink         Opcode = 6
	OpMknod           Opcode = 8
	OpMkdir           Opcode = 9
	OpUnlink          Opcode = 10
	OpRmdir           Opcode = 11
	OpRename          Opcode = 12
	OpLink            Opcode = 13
	OpOpen            Opcode = 14
	OpRead            Opcode = 15
	OpWrite           Opcode = 16
	OpStatfs          Opcode = 17
	OpRelease         Opcode = 18
	OpFsync           Opcode = 20
	OpSetxattr        Opcode = 21
	OpGetxattr        Opcode = 22
	OpListxattr       Opcode = 23
	OpRemovexattr     Opcode = 24
	OpFlush           Opcode = 25
	OpInit            Opcode = 26
	OpOpendir         Opcode = 27
	OpReaddir         Opcode = 28
	OpReleasedir      Opcode = 29
	OpFsyncdir        Opcode = 30
	OpGetlk           Opcode = 31
	OpSetlk           Opcode = 32
	OpSetlkw          Opcode = 33
	OpAccess          Opcode = 34
	OpCreate          Opcode = 35
	OpInterrupt       Opcode = 36 // a reply is optional
	OpBmap            Opcode = 37
	OpDestroy         Opcode = 38
	OpIoctl           Opcode = 39
	OpPoll            Opcode = 40
	OpNotifyReply     Opcode = 41 // answer to NotifyRetrieve; no reply
	OpBatchForget     Opcode = 42 // no reply
	OpFallocate       Opcode = 43
	OpReaddirplus     Opcode = 44
	OpRename2         Opcode = 45
	OpLseek           Opcode = 46
	OpCopyFileRange   Opcode = 47
	OpSetupmapping    Opcode = 48 // virtiofs with DAX only
	OpRemovemapping   Opcode = 49 // virtiofs with DAX only
	OpSyncfs          Opcode = 50
	OpTmpfile         Opcode = 51
	OpStatx           Opcode = 52
	OpCopyFileRange64 Opcode = 53

	// OpCuseInit opens a session of a character device in user space.
	OpCuseInit Opcode = 4096

	// OpInitSwapped and OpCuseInitSwapped are what the two INIT opcodes look
	// like when the other side has the other byte order.
	OpInitSwapped     Opcode = 26 << 24
	OpCuseInitSwapped Opcode = 4096 << 8
)

// OpLimit is one more than the highest ordinary opcode, for tables that are
// indexed by opcode.
const OpLimit = 54

// String returns the kernel's name without its prefix, such as "LOOKUP", or
// "OPCODE(n)" for a number that is not an operation.
func (o Opcode) String() string {
	if o < OpLimit && opNames[o] != "" {
		return opNames[o]
	}
	if o == OpCuseInit {
		return "CUSE_INIT"
	}
	return "OPCODE(" + strconv.FormatUint(uint64(o), 10) + ")"
}

// Known reports whether o is an operation of this protocol version.
func (o Opcode) Known() bool {
	return o < OpLimit && opNames[o] != "" || o == OpCuseInit
}

// ParseOpcode finds an operation by the name that String gives.
func ParseOpcode(name string) (Opcode, bool) {
	if name == "" {
		return 0, false
	}
	for o, n := range opNames {
		if n == name {
			return Opcode(o), true
		}
	}
	return OpCuseInit, name == "CUSE_INIT"
}

var opNames = [OpLimit]string{
	OpLookup: "LOOKUP", OpForget: "FORGET", OpGetattr: "GETATTR", OpSetattr: "SETATTR",
	OpReadlink: "READLINK", OpSymlink: "SYMLINK", OpMknod: "MKNOD", OpMkdir: "MKDIR",
	OpUnlink: "UNLINK", OpRmdir: "RMDIR", OpRename: "RENAME", OpLink: "LINK",
	OpOpen: "OPEN", OpRead: "READ", OpWrite: "WRITE", OpStatfs: "STATFS",
	OpRelease: "RELEASE", OpFsync: "FSYNC", OpSetxattr: "SETXATTR", OpGetxattr: "GETXATTR",
	OpListxattr: "LISTXATTR", OpRemovexattr: "REMOVEXATTR", OpFlush: "FLUSH", OpInit: "INIT",
	OpOpendir: "OPENDIR", OpReaddir: "READDIR", OpReleasedir: "RELEASEDIR", OpFsyncdir: "FSYNCDIR",
	OpGetlk: "GETLK", OpSetlk: "SETLK", OpSetlkw: "SETLKW", OpAccess: "ACCESS",
	OpCreate: "CREATE", OpInterrupt: "INTERRUPT", OpBmap: "BMAP", OpDestroy: "DESTROY",
	OpIoctl: "IOCTL", OpPoll: "POLL", OpNotifyReply: "NOTIFY_REPLY", OpBatchForget: "BATCH_FORGET",
	OpFallocate: "FALLOCATE", OpReaddirplus: "READDIRPLUS", OpRename2: "RENAME2", OpLseek: "LSEEK",
	OpCopyFileRange: "COPY_FILE_RANGE", OpSetupmapping: "SETUPMAPPING", OpRemovemapping: "REMOVEMAPPING",
	OpSyncfs: "SYNCFS", OpTmpfile: "TMPFILE", OpStatx: "STATX", OpCopyFileRange64: "COPY_FILE_RANGE_64",
}
