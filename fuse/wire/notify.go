package wire

import "strconv"

// A NotifyCode says what a message is that the server sends unasked: it
// travels, positive, in the error field of a reply header whose unique is 0.
type NotifyCode int32

// The notifications of protocol 7.45. All but Poll and Resend can wait in the
// kernel for locks that a caller of this very server holds: never send them
// from a handler.
const (
	NotifyPoll       NotifyCode = 1 // wake pollers
	NotifyInvalInode NotifyCode = 2 // drop attributes and cached data
	NotifyInvalEntry NotifyCode = 3 // drop, or expire, a name
	NotifyStore      NotifyCode = 4 // put data into the page cache
	NotifyRetrieve   NotifyCode = 5 // ask for cached data; the answer is OpNotifyReply
	NotifyDelete     NotifyCode = 6 // a name is gone
	NotifyResend     NotifyCode = 7 // hand out again what was read and not answered
	NotifyIncEpoch   NotifyCode = 8 // revalidate all names lazily
	NotifyPrune      NotifyCode = 9 // drop unused inodes so that their FORGETs come
)

// String returns the kernel's name without its prefix, such as "INVAL_ENTRY".
func (c NotifyCode) String() string {
	if c > 0 && int(c) < len(notifyNames) {
		return notifyNames[c]
	}
	return "NOTIFY(" + strconv.Itoa(int(c)) + ")"
}

var notifyNames = [...]string{
	NotifyPoll: "POLL", NotifyInvalInode: "INVAL_INODE", NotifyInvalEntry: "INVAL_ENTRY",
	NotifyStore: "STORE", NotifyRetrieve: "RETRIEVE", NotifyDelete: "DELETE",
	NotifyResend: "RESEND", NotifyIncEpoch: "INC_EPOCH", NotifyPrune: "PRUNE",
}

// Sizes of the fixed structs of notifications, after the header.
const (
	NotifyPollSize       = 8
	NotifyInvalInodeSize = 24
	NotifyInvalEntrySize = 16 // then the name and a NUL
	NotifyStoreSize      = 24 // then the data
	NotifyRetrieveSize   = 32
	NotifyDeleteSize     = 24 // then the name and a NUL
	NotifyPruneSize      = 16 // then eight bytes for each node id
)
