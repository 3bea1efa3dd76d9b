package fuse

import "time"

// SetAttrInCommon has the fields of SETATTR (fuse_setattr_in, 88 bytes after
// the header). Valid says which of them count; the methods look there first.
type SetAttrInCommon struct {
	InHeader
	Valid     uint32 // FATTR_...
	Padding   uint32
	Fh        uint64
	Size      uint64
	LockOwner uint64
	Atime     uint64
	Mtime     uint64
	Ctime     uint64
	Atimensec uint32
	Mtimensec uint32
	Ctimensec uint32
	Mode      uint32
	Unused4   uint32
	Owner
	Unused5 uint32
}

// SetAttrIn changes attributes.
type SetAttrIn struct {
	SetAttrInCommon
}

// GetFh returns the handle of the open file through which the change comes.
func (s *SetAttrInCommon) GetFh() (uint64, bool) { return s.Fh, s.Valid&FATTR_FH != 0 }

// GetMode returns the new permissions, without the file type.
func (s *SetAttrInCommon) GetMode() (uint32, bool) { return s.Mode & 0o7777, s.Valid&FATTR_MODE != 0 }

// GetUID returns the new owner. Where it is not to change, the number is the
// one that chown(2) takes for "leave it".
func (s *SetAttrInCommon) GetUID() (uint32, bool) { return ownerOr(s.Uid, s.Valid&FATTR_UID != 0) }

// GetGID returns the new group, like GetUID.
func (s *SetAttrInCommon) GetGID() (uint32, bool) { return ownerOr(s.Gid, s.Valid&FATTR_GID != 0) }

func ownerOr(id uint32, ok bool) (uint32, bool) {
	if !ok {
		return ^uint32(0), false
	}
	return id, true
}

// GetSize returns the new size in bytes.
func (s *SetAttrInCommon) GetSize() (uint64, bool) { return s.Size, s.Valid&FATTR_SIZE != 0 }

// GetMTime returns the new time of modification, which is the present one if
// the caller asked for "now".
func (s *SetAttrInCommon) GetMTime() (time.Time, bool) {
	return newTime(s.Valid, FATTR_MTIME, FATTR_MTIME_NOW, s.Mtime, s.Mtimensec)
}

// GetATime returns the new time of access, like GetMTime.
func (s *SetAttrInCommon) GetATime() (time.Time, bool) {
	return newTime(s.Valid, FATTR_ATIME, FATTR_ATIME_NOW, s.Atime, s.Atimensec)
}

// GetCTime returns the new time of change; only the kernel's write-back
// cache sets it.
func (s *SetAttrInCommon) GetCTime() (time.Time, bool) {
	return newTime(s.Valid, FATTR_CTIME, 0, s.Ctime, s.Ctimensec)
}

func newTime(valid, set, now uint32, sec uint64, nsec uint32) (time.Time, bool) {
	switch {
	case valid&set == 0:
		return time.Time{}, false
	case valid&now != 0:
		return time.Now(), true
	}
	return time.Unix(int64(sec), int64(nsec)), true
}
