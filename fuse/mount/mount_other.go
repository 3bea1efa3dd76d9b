//go:build !linux

package mount

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
)

var errSystem = fmt.Errorf("mounting FUSE is not supported on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Point is a FUSE session and the place where it is mounted; on this system
// there is none.
type Point struct{}

// Prepare says that FUSE is not supported on this system.
func Prepare(o Options) (*Point, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	_, _ = o.source(), o.fstype()
	return nil, &Error{Op: "mount", Point: o.Point, Err: errSystem}
}

// Adopt says that FUSE is not supported on this system.
func Adopt(int, string) (*Point, error) {
	return nil, &Error{Op: "adopt", Point: "/dev/fd", Err: errSystem}
}

// FD is -1.
func (*Point) FD() int { return -1 }

// Path is "".
func (*Point) Path() string { return "" }

// Synchronous is false.
func (*Point) Synchronous() bool { return false }

// Method is Auto.
func (*Point) Method() Method { return Auto }

// Attach fails.
func (*Point) Attach() error { return errSystem }

// Unmount fails.
func (*Point) Unmount() error { return errSystem }

// Detach fails.
func (*Point) Detach() error { return errSystem }

// Abort fails.
func (*Point) Abort() error { return errSystem }

// Waiting fails.
func (*Point) Waiting() (int, error) { return 0, errSystem }

// SetReadAhead fails.
func (*Point) SetReadAhead(int) error { return errSystem }

// Device fails.
func (*Point) Device() (string, error) { return "", errSystem }

// Namespace does nothing: there are no namespaces on this system.
func Namespace(*exec.Cmd) {}

// Dead is false.
func (*Point) Dead() bool { return false }
