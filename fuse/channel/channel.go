// Package channel says how a FUSE request reaches a server and how its answer
// goes back, so that the engine does not know whether it talks to /dev/fuse,
// to io_uring, to a socket or to a fake kernel.
//
// A [Channel] pushes: [Channel.Serve] runs its readers, and each of them calls
// [Handler.Handle] for each message, on the thread that received it. A
// [Request] is lent: it holds the message, the room for its answer, and a
// [Slot] through which exactly one answer goes back, at once or later and from
// any goroutine.
//
// Order of a session:
//
//  1. the owner makes a Channel and calls Serve in a goroutine of its own;
//  2. INIT arrives as the first Request; the handler answers it through its
//     Slot and then, still inside Handle, calls [Channel.Start] with what was
//     agreed (a resumed session calls Start before Serve instead, and there is
//     no INIT);
//  3. requests come and go;
//  4. Serve returns when the kernel ended the session or Close was called.
//
// A handler may block. The channel must then go on receiving: it either sees
// by itself that a reader does not come back, or is told by [Slot.Block].
package channel

import (
	"errors"
	"syscall"
)

const (
	// HeaderSize is the length of fuse_in_header, bytes.
	HeaderSize = 40
	// ReplyHeaderSize is the length of fuse_out_header, bytes.
	ReplyHeaderSize = 16
	// MaxArgs is the most bytes of fixed arguments that an opcode has room
	// for: op_in of fuse_uring_req_header.
	MaxArgs = 128
)

// ErrEnded is what operations on a channel give after its session ended.
var ErrEnded = errors.New("fuse session has ended")

// ErrUnsupported is what a channel gives for an ability that it lacks.
var ErrUnsupported = errors.New("not supported by this fuse channel")

// Request is one message of the kernel and the room for its answer.
//
// All slices belong to the channel. Header, Args and Payload may be read until
// the answer is given; whether writing Out destroys Payload is said by Shared.
// A channel reuses Request values: the handler keeps no pointer to it after
// [Slot.Reply] or [Slot.Release].
type Request struct {
	// Header is fuse_in_header, [HeaderSize] bytes, 8-aligned.
	Header []byte

	// Args holds the fixed arguments, 8-aligned. If Split, it is the
	// op_in area (it may be longer than the arguments of the opcode, and
	// what follows them is rubbish) and Payload is the rest of the message.
	// Otherwise it is everything that follows the header, Payload is nil,
	// and the handler finds the border by the opcode.
	Args []byte

	// Payload holds names, data and the extension area of a Split message.
	// The data of a WRITE begins at a page boundary in either form, where
	// the channel can.
	Payload []byte

	// Out is the room for the body of the answer (what follows
	// fuse_out_header): 8-aligned, page-aligned where the channel can. Its
	// length is the largest body that may be sent. Its content is undefined.
	Out []byte

	// Split and Shared: see Args and Out. Shared means that Out and Payload
	// are the same memory.
	Split, Shared bool

	// Resent says that the request was in the hands of another server before,
	// which may have carried it out and did not answer it.
	Resent bool

	// Slot takes the answer. It is set by the channel and never nil.
	Slot Slot

	// State is the handler's: the channel never touches it, and keeps it
	// when it reuses the Request. So a handler allocates its own part once
	// for each Request value and not for each message.
	State any
}

// Slot takes the one answer of a request. Its methods may be called from any
// goroutine; Reply is called at most once, Release once unless Reply gave nil.
type Slot interface {
	// Reply sends the answer: errno (0 for success, otherwise positive), and
	// for success the first n bytes of Out. Errors: ENOENT if the kernel no
	// longer waits (interrupted or aborted; harmless), EINVAL if it found the
	// answer malformed, [ErrEnded] after the session. On nil the request is
	// the channel's again. On an error it is still the handler's, with Out as
	// it was, so that references which the kernel did not take can be taken
	// back; then it calls Release. A channel that learns of the failure only
	// after Reply has returned gives nil.
	Reply(errno syscall.Errno, n int) error

	// Release gives the request back without an answer: FORGET,
	// BATCH_FORGET, NOTIFY_REPLY, INTERRUPT, malformed messages, and after
	// Reply gave an error.
	Release()

	// Block says that the handler is about to wait for something: the reader
	// that called it gives its place to another one first. It is cheap to
	// call twice. A handler that blocks without saying so is found out by
	// the channel, only later.
	Block()
}

// Handler receives the messages of a channel.
type Handler interface {
	// Handle is called by a reader for each message, by several at once.
	// The answer may be given after it returned.
	Handle(*Request)
}

// Params is what INIT agreed on, as far as a channel cares. It is plain data,
// so that a session's successor can be told it.
type Params struct {
	Minor         uint32 // protocol 7.Minor in use
	Flags         uint64 // INIT flags in use, bits 0 to 63
	MaxWrite      uint32 // most bytes of a WRITE
	MaxPages      uint32 // most pages of a READ or WRITE
	MaxBackground uint16 // requests in the background at a time
}

// Caps is what a channel can do, and why it cannot do more.
type Caps struct {
	// Transport is the channel's name: "device", "io_uring", "fake", ...
	Transport string

	// MaxPayload is the most bytes of data that a request or an answer may
	// carry, fixed arguments excluded. INIT never agrees on more.
	MaxPayload int

	// InitFlags are INIT flags that the channel wants to be accepted if the
	// kernel offers them (OVER_IO_URING).
	InitFlags uint64

	// Backing says that the channel has the [Backer] abilities.
	Backing bool

	// Why holds the reason for each thing that is off, by name of the thing:
	// "io_uring": "module parameter enable_uring is N".
	Why map[string]string
}

// Channel carries the messages of one session.
type Channel interface {
	// Caps says what the channel can do. After Start it says what is in use.
	Caps() Caps

	// Serve receives messages and calls h for each until the session ends or
	// Close is called; then, when all its readers have come back, it returns
	// nil, or the error that ended it. It is called once.
	Serve(h Handler) error

	// Start tells the channel what INIT agreed on. It is called once, right
	// after the answer to INIT was sent; the handler of INIT may be running.
	// An error means that the session cannot go on; a channel that merely
	// falls back (rings that cannot be registered) returns nil and says why
	// in Caps.
	Start(Params) error

	// Notify sends one notification: msg is a whole message, beginning with
	// fuse_out_header (len, code, unique 0). It may block in the kernel on
	// locks that are freed by the answers to other requests, so it must not
	// be called by a handler. msg is the caller's again on return. Errors are
	// the kernel's errno, or ErrEnded.
	Notify(msg []byte) error

	// Close ends Serve without ending the kernel's side: readers stop, and
	// descriptors are closed when the last request that was lent out came
	// back. It may be called at any time, more than once.
	Close() error
}

// Backer is a Channel whose kernel serves files without the server
// (FUSE_PASSTHROUGH).
type Backer interface {
	// BackingOpen registers the open file fd and returns its id, positive.
	BackingOpen(fd int, flags uint32) (id int32, err error)
	// BackingClose frees an id. After the session, with which the kernel
	// frees all of them, it does nothing.
	BackingClose(id int32) error
}

// Transferable is a Channel whose session can go on in another process.
type Transferable interface {
	// Pause stops receiving. When it returns nil no message will be received
	// any more; those already lent out can be answered as before. Serve does
	// not return yet. A nil error is final; after an error receiving goes on.
	Pause() error

	// Files returns duplicates, close-on-exec, of the descriptors that the
	// successor needs, the one that was mounted first. They are the caller's.
	Files() ([]int, error)

	// Describe returns what the successor's channel needs to know besides
	// Params (ring geometry, the order of Files), as bytes that only the same
	// kind of channel reads; they carry their own version.
	Describe() ([]byte, error)
}

// Aborter is a Channel that can end the kernel's side by force, so that every
// caller gets an error and none hangs.
type Aborter interface {
	Abort() error
}
