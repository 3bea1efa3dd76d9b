//go:build !linux

package passthrough

import (
	"errors"
	"fmt"

	"github.com/sluicefs/sluice/fuse"
)

// FS is a directory as a file system; on this system there is none.
type FS struct{ fuse.RawFileSystem }

// New gives an error: directories are not supported on this system, because
// they are built on file handles and descriptors of Linux.
func New(path string, _ Options) (*FS, error) {
	return nil, fmt.Errorf("%s: passthrough on this system: %w", path, errors.ErrUnsupported)
}

// Transferable gives an error on this system.
func (f *FS) Transferable() error { return errors.ErrUnsupported }

// Settle does nothing on this system.
func (f *FS) Settle() {}

// HandedOver does nothing on this system.
func (f *FS) HandedOver() {}
