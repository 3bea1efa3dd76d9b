package imagefs

import "sync/atomic"

// counters counts requests. They are for people to look at, not for control.
type counters struct {
	lookups, getattrs, opens, passthrough, reads, readBytes, readdirs, errors atomic.Uint64
}

// Counts says how many requests a file system has answered. As the kernel
// asks each thing once, they count first looks, not uses.
type Counts struct {
	Lookups     uint64 `json:"lookups"`
	GetAttrs    uint64 `json:"getattrs"`
	Opens       uint64 `json:"opens"`
	Passthrough uint64 `json:"passthrough_opens"`
	Reads       uint64 `json:"reads"`
	ReadBytes   uint64 `json:"read_bytes"`
	ReadDirs    uint64 `json:"readdirs"`
	Errors      uint64 `json:"errors"`
}

// Counts returns the counts so far.
func (f *FS) Counts() Counts {
	c := &f.counts
	return Counts{
		Lookups: c.lookups.Load(), GetAttrs: c.getattrs.Load(),
		Opens: c.opens.Load(), Passthrough: c.passthrough.Load(),
		Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(),
		ReadDirs: c.readdirs.Load(), Errors: c.errors.Load(),
	}
}
