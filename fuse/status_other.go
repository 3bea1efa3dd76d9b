//go:build !linux

package fuse

// Statuses whose numbers differ between systems; these are Linux's, the only
// system whose kernel is served so far.
const (
	ENODATA   = Status(61)
	ENOATTR   = Status(61)
	EREMOTEIO = Status(121)
)
