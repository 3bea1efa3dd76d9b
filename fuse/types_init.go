package fuse

import "github.com/sluicefs/sluice/fuse/wire"

// InitIn is what the kernel says and offers when a session begins.
type InitIn struct {
	InHeader
	Major        uint32
	Minor        uint32
	MaxReadAhead uint32 // bytes
	Flags        uint32 // CAP_... below bit 32
	Flags2       uint32 // CAP_... from bit 32 on, if CAP_INIT_EXT is set
	Unused       [11]uint32
}

// Flags64 returns all flags in one number.
func (i *InitIn) Flags64() uint64 { return joinFlags(i.Flags, i.Flags2) }

// SupportsVersion reports whether the kernel speaks protocol maj.min or newer.
func (i *InitIn) SupportsVersion(maj, min uint32) bool {
	return i.Major > maj || i.Major == maj && i.Minor >= min
}

// SupportsNotify reports whether the kernel understands a notification, given
// as one of NOTIFY_..., or as the positive code of the protocol.
func (i *InitIn) SupportsNotify(notifyType int) bool {
	if notifyType < 0 {
		notifyType = -notifyType
	}
	since, ok := notifySince[wire.NotifyCode(notifyType)]
	return ok && i.SupportsVersion(7, since)
}

// notifySince has the minor version that introduced each notification.
var notifySince = map[wire.NotifyCode]uint32{
	wire.NotifyPoll:       11,
	wire.NotifyInvalInode: 12,
	wire.NotifyInvalEntry: 12,
	wire.NotifyStore:      15,
	wire.NotifyRetrieve:   15,
	wire.NotifyDelete:     18,
	wire.NotifyResend:     40,
	wire.NotifyIncEpoch:   44,
	wire.NotifyPrune:      45,
}

// InitOut is what the server answers when a session begins.
type InitOut struct {
	Major               uint32
	Minor               uint32
	MaxReadAhead        uint32 // bytes; only down from what was offered
	Flags               uint32
	MaxBackground       uint16 // requests; 0 = the kernel's default, 12
	CongestionThreshold uint16 // requests; 0 = three quarters of it
	MaxWrite            uint32 // bytes
	TimeGran            uint32 // nanoseconds
	MaxPages            uint16 // pages in a request, with CAP_MAX_PAGES
	MapAlignment        uint16 // log2 of bytes, with CAP_MAP_ALIGNMENT
	Flags2              uint32
	MaxStackDepth       uint32 // of backing file systems, with CAP_PASSTHROUGH: 1 or 2
	RequestTimeout      uint16 // seconds, with CAP_REQUEST_TIMEOUT
	_                   [11]uint16
}

// Flags64 returns all flags in one number.
func (o *InitOut) Flags64() uint64 { return joinFlags(o.Flags, o.Flags2) }

// SetFlags64 sets all flags; CAP_INIT_EXT with those that need it.
func (o *InitOut) SetFlags64(flags uint64) {
	if flags>>32 != 0 {
		flags |= CAP_INIT_EXT
	}
	o.Flags, o.Flags2 = uint32(flags), uint32(flags>>32)
}

// joinFlags ignores the upper half unless the lower says that it counts.
func joinFlags(lo, hi uint32) uint64 {
	if lo&CAP_INIT_EXT == 0 {
		return uint64(lo)
	}
	return uint64(hi)<<32 | uint64(lo)
}
