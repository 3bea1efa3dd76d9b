package fuse

import "time"

// Owner is a user and a group, as numbers of the user namespace of the mount.
type Owner struct {
	Uid uint32
	Gid uint32
}

// Caller is who asks: the credentials that count for file access, and a
// thread id in the pid namespace of the mount. Pid is 0 for requests that the
// kernel makes by itself, such as the writing back of cached data.
type Caller struct {
	Owner
	Pid uint32
}

// InHeader begins every request (fuse_in_header, 40 bytes). All types named
// ...In embed it; their memory is laid out as the request's bytes are.
type InHeader struct {
	Length uint32 // bytes of the whole request
	Opcode uint32
	Unique uint64 // id of the request
	NodeId uint64 // the inode that it is about
	Caller
	TotalExtlen uint16 // extension area, in units of 8 bytes
	Padding     uint16
}

// OutHeader begins every reply and notification (fuse_out_header, 16 bytes).
type OutHeader struct {
	Length uint32
	Status int32 // negated errno, or a notification's code
	Unique uint64
}

// Attr is what stat(2) tells of an inode (fuse_attr, 88 bytes). Seconds are
// signed when interpreted.
type Attr struct {
	Ino       uint64
	Size      uint64
	Blocks    uint64 // of 512 bytes
	Atime     uint64
	Mtime     uint64
	Ctime     uint64
	Atimensec uint32
	Mtimensec uint32
	Ctimensec uint32
	Mode      uint32 // type and permissions, as in stat(2)
	Nlink     uint32
	Owner
	Rdev    uint32
	Blksize uint32
	Flags   uint32 // ATTR_SUBMOUNT, ATTR_DAX
}

// EntryOut answers LOOKUP and all that creates (fuse_entry_out, 128 bytes).
// A successful one gives the kernel one reference to NodeId, which it will
// give back with FORGET. NodeId 0 with an entry time-out says that the name
// does not exist, and lets the kernel remember it.
type EntryOut struct {
	NodeId         uint64
	Generation     uint64 // with NodeId unique for the life of the mount
	EntryValid     uint64 // seconds for which the name may be cached
	AttrValid      uint64 // seconds for which Attr may be cached
	EntryValidNsec uint32
	AttrValidNsec  uint32
	Attr
}

// EntryTimeout returns for how long the name may be cached.
func (o *EntryOut) EntryTimeout() time.Duration { return joinTime(o.EntryValid, o.EntryValidNsec) }

// AttrTimeout returns for how long the attributes may be cached.
func (o *EntryOut) AttrTimeout() time.Duration { return joinTime(o.AttrValid, o.AttrValidNsec) }

// SetEntryTimeout sets for how long the name may be cached; a negative time
// counts as 0.
func (o *EntryOut) SetEntryTimeout(dt time.Duration) {
	o.EntryValid, o.EntryValidNsec = splitTime(dt)
}

// SetAttrTimeout sets for how long the attributes may be cached; a negative
// time counts as 0.
func (o *EntryOut) SetAttrTimeout(dt time.Duration) {
	o.AttrValid, o.AttrValidNsec = splitTime(dt)
}

// AttrOut answers GETATTR and SETATTR (fuse_attr_out, 104 bytes).
type AttrOut struct {
	AttrValid     uint64 // seconds for which Attr may be cached
	AttrValidNsec uint32
	Dummy         uint32
	Attr
}

// Timeout returns for how long the attributes may be cached.
func (o *AttrOut) Timeout() time.Duration { return joinTime(o.AttrValid, o.AttrValidNsec) }

// SetTimeout sets for how long the attributes may be cached; a negative time
// counts as 0.
func (o *AttrOut) SetTimeout(dt time.Duration) {
	o.AttrValid, o.AttrValidNsec = splitTime(dt)
}

// splitTime makes seconds and nanoseconds of d.
func splitTime(d time.Duration) (sec uint64, nsec uint32) {
	if d <= 0 {
		return 0, 0
	}
	return uint64(d / time.Second), uint32(d % time.Second)
}

// joinTime makes a duration of seconds and nanoseconds; what does not fit
// becomes the longest duration.
func joinTime(sec uint64, nsec uint32) time.Duration {
	const longest = time.Duration(1<<63 - 1)
	if sec > uint64(longest/time.Second)-5 {
		return longest
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec)
}
