package mmap

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile returns a file without a name that lives in memory only.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}
