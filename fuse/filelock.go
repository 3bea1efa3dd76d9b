package fuse

import "syscall"

// FileLock is a POSIX or flock lock on the bytes Start to End, both included;
// End is 1<<63-1 for "to the end of the file".
type FileLock struct {
	Start uint64
	End   uint64
	Typ   uint32 // F_RDLCK, F_WRLCK, F_UNLCK
	Pid   uint32
}

// offsetMax stands for the end of the file, whatever its size.
const offsetMax = 1<<63 - 1

// ToFlockT fills the struct that fcntl(2) takes, which counts bytes and has 0
// for "to the end".
func (lk *FileLock) ToFlockT(flockT *syscall.Flock_t) {
	flockT.Start = int64(lk.Start)
	flockT.Len = 0
	if lk.End < offsetMax {
		flockT.Len = int64(lk.End-lk.Start) + 1
	}
	flockT.Whence = 0 // SEEK_SET
	flockT.Type = int16(lk.Typ)
	flockT.Pid = int32(lk.Pid)
}

// FromFlockT takes over what fcntl(2) answered.
func (lk *FileLock) FromFlockT(flockT *syscall.Flock_t) {
	lk.Typ = uint32(flockT.Type)
	if flockT.Type == syscall.F_UNLCK {
		return // the other fields have no meaning
	}
	lk.Start = uint64(flockT.Start)
	lk.End = offsetMax
	if flockT.Len > 0 {
		lk.End = uint64(flockT.Start + flockT.Len - 1)
	}
	lk.Pid = uint32(flockT.Pid)
}
