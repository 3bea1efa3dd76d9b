package fuse

import "syscall"

// Statuses whose names not all systems have.
const (
	ENODATA   = Status(syscall.ENODATA)
	ENOATTR   = Status(syscall.ENODATA) // what other systems call a missing extended attribute
	EREMOTEIO = Status(syscall.EREMOTEIO)
)
