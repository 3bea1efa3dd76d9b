package fuse

import (
	"os"
	"syscall"
	"time"
)

// CurrentOwner returns the user and group that this process runs as.
func CurrentOwner() *Owner {
	return &Owner{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
}

// utimeOmit in a Timespec's nanoseconds has utimensat(2) leave a time alone.
const utimeOmit = (1 << 30) - 2

// UtimeToTimespec makes of t what utimensat(2) takes; nil leaves the time as
// it is (UTIME_OMIT).
func UtimeToTimespec(t *time.Time) (ts syscall.Timespec) {
	if t == nil {
		ts.Nsec = utimeOmit
		return ts
	}
	return syscall.NsecToTimespec(t.UnixNano())
}
