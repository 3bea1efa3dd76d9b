package fuse

import "time"

// SxTime is a time of statx(2): seconds, which are signed when interpreted,
// and nanoseconds.
type SxTime struct {
	Sec  uint64
	Nsec uint32
	_    uint32
}

// Seconds returns the time as a number of seconds.
func (t *SxTime) Seconds() float64 { return float64(int64(t.Sec)) + float64(t.Nsec)*1e-9 }

// Statx is what statx(2) tells of an inode (fuse_statx, 256 bytes).
type Statx struct {
	Mask           uint32 // STATX_...: which fields are valid
	Blksize        uint32
	Attributes     uint64 // STATX_ATTR_...
	Nlink          uint32
	Uid            uint32
	Gid            uint32
	Mode           uint16
	_              uint16
	Ino            uint64
	Size           uint64
	Blocks         uint64 // of 512 bytes
	AttributesMask uint64 // which bits of Attributes are supported

	Atime SxTime
	Btime SxTime
	Ctime SxTime
	Mtime SxTime

	RdevMajor uint32
	RdevMinor uint32
	DevMajor  uint32
	DevMinor  uint32
	_         [14]uint64
}

// StatxOut answers STATX (fuse_statx_out, 288 bytes).
type StatxOut struct {
	AttrValid     uint64 // seconds for which the attributes may be cached
	AttrValidNsec uint32
	Flags         uint32
	_             [2]uint64
	Statx
}

// Timeout returns for how long the attributes may be cached.
func (o *StatxOut) Timeout() time.Duration { return joinTime(o.AttrValid, o.AttrValidNsec) }

// SetTimeout sets for how long the attributes may be cached; a negative time
// counts as 0.
func (o *StatxOut) SetTimeout(dt time.Duration) {
	o.AttrValid, o.AttrValidNsec = splitTime(dt)
}
