package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// PageSize is the kernel's page size, bytes.
var PageSize = unix.Getpagesize()

// Map returns size bytes of zeroed, page-aligned memory that the garbage
// collector does not know. A page takes real memory when it is first touched.
// Free it with [Unmap].
func Map(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
}

// Unmap frees memory that [Map] gave. It must not be used afterwards.
func Unmap(b []byte) error { return unix.Munmap(b) }

// Discard gives the pages of b back to the kernel: they read as zero later. b
// begins at a page boundary.
func Discard(b []byte) {
	if len(b) > 0 {
		// Failing keeps the memory in use, which is all that it can do.
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
	}
}

// Address returns where b begins.
func Address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
