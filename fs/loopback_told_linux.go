package fs

import "time"

// A listing with attributes tells the kernel nothing new of a file that was
// looked up just before: git, for one, asks for every file that it knows, and
// then lists the directories. Such an entry goes without attributes, and the
// kernel goes by those that it has. So an error here costs a request, no more.

// milliseconds is a clock for Inode.told; it begins again after 49 days.
func (b *rawBridge) milliseconds() uint32 {
	return uint32(time.Since(b.started) / time.Millisecond)
}

// toldOfLate reports whether the kernel knows n, and was told of it less than
// half the time ago for which that is good.
func (n *Inode) toldOfLate(now uint32) bool {
	good := uint64(min(n.bridge.entryTimeout, n.bridge.attrTimeout) / time.Millisecond)
	return uint64(now-n.told.Load()) < good/2 && n.nodeID() != 0
}
