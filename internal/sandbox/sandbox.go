// Package sandbox runs a command with a directory as its root, in namespaces
// of its own: mounts, processes, host name, IPC, and users where this
// process is not root. The directory stays as it is; what the command writes
// goes to an overlay on top of it.
//
// It does not promise to hold back a hostile program as a container runtime
// does (the network is the host's, no system call is filtered); it is there
// to try an image out.
//
// The set-up happens in a child that is this program again under the name
// [InitName]: a Go program cannot change its root between fork and exec, and
// a process that serves a FUSE mount must not start programs that lie on it,
// as the Go runtime waits for exec with a lock held that the server needs.
// Whoever uses this package must call [Init] when started by that name.
package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// InitName is the name under which the program is started again.
const InitName = "sluice-sandbox"

// Config says what to run and where.
type Config struct {
	Root     string   // directory that becomes the root
	State    string   // directory for what is written; "" is memory (tmpfs)
	ReadOnly bool     // no overlay: the root itself, read-only
	Args     []string // command and its arguments, looked up in the root
	Env      []string // its environment; PATH in it is used for the look-up
	Dir      string   // working directory in the root; "" is "/"
	User     string   // to run as: "name[:group]" or "uid[:gid]", looked up in the root; "" is root
	// UserOptional says that root will do where there is no such user: a user
	// who is not root himself can be none but root in a namespace of his own.
	UserOptional bool
	Terminal     bool   // the command gets a terminal of its own; Run sets it
	Hostname     string // "" keeps the host's
	Base         string // directory to mount on; Run sets it
}

// Streams of the command. Stdin may be nil.
type Streams struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// Terminal gives the command a terminal of its own that is joined with
	// Stdin, which must be one, and Stdout: for shells, editors, job control.
	Terminal bool
	// Signals are passed on to the command. It may be nil.
	Signals <-chan os.Signal
}

// Result is how a command ended.
type Result struct {
	ExitCode    int           // as a shell has it: 128 + signal for a killed one
	FirstOutput time.Duration // from the start to the first byte; 0 if there was none
	Total       time.Duration
}

// SetupError says that a command could not be started.
type SetupError struct {
	What string // the step
	Err  error
}

func (e *SetupError) Error() string { return fmt.Sprintf("sandbox: %s: %v", e.What, e.Err) }

func (e *SetupError) Unwrap() error { return e.Err }

// firstByte notes when the first byte passes on the way to w.
type firstByte struct {
	once *sync.Once
	note func()
	w    io.Writer
}

func (f firstByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		f.once.Do(f.note)
	}
	return f.w.Write(p)
}
