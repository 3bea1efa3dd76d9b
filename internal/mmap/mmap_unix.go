//go:build unix

package mmap

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, n int) ([]byte, func([]byte) error, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	return data, unix.Munmap, err
}

func mapAnonymous(n int) ([]byte, func([]byte) error, error) {
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	return data, unix.Munmap, err
}

// trim drops clean pages; that it cannot is no error.
func trim(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }
