package uring

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/wire"
)

// On its queue's processor an owner shares caches with the caller and wakes
// nobody elsewhere, which is what a small request costs most. Reading ahead is
// another matter: its requests are large, and the caller goes on copying what
// came before. Then the owner may run anywhere, and the scheduler takes it to
// a processor that is idle, so that both copy at a time. Large requests that
// the caller waits for (WRITE, direct I/O) gain nothing from that.
const (
	// largeRead is from how many bytes on copying costs several times what
	// waking another processor does.
	largeRead = 128 << 10

	// roamAfter large reads in a row let the owner go.
	roamAfter = 2

	// returnAfter other requests in a row bring it back.
	returnAfter = 4
)

// Of struct fuse_in_header and of struct fuse_read_in, which follows at argsAt.
const (
	opcodeAt    = 4
	readSizeAt  = 16
	readFlagsAt = 20

	readLockOwner = 1 << 1 // FUSE_READ_LOCKOWNER
)

// place looks at the request in s, and binds the owner to its processor or
// lets it go. The owner calls it.
func (q *queue) place(s *slot) {
	if s.readsAhead() == q.roams {
		q.odd = 0
		return
	}
	q.odd++
	switch {
	case q.roams && q.odd >= returnAfter:
		q.bind()
	case !q.roams && q.odd >= roamAfter:
		q.odd = 0
		q.roams = unix.SchedSetaffinity(0, &q.anywhere) == nil
	}
}

// readsAhead reports whether the request is a large READ for the page cache.
// The kernel names a lock owner in those that go past it.
func (s *slot) readsAhead() bool {
	ne := binary.NativeEndian
	return wire.Opcode(ne.Uint32(s.head[opcodeAt:])) == wire.OpRead &&
		ne.Uint32(s.head[argsAt+readSizeAt:]) >= largeRead &&
		ne.Uint32(s.head[argsAt+readFlagsAt:])&readLockOwner == 0
}
