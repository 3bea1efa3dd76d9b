package fuse

import "github.com/sluicefs/sluice/internal/sys"

// withoutFSETID is sys.WithoutFSETID.
func withoutFSETID(f func()) bool { return sys.WithoutFSETID(f) }
