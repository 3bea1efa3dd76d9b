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

// MapShared maps size bytes of the file fd (a memfd) at exactly the address
// addr, shared with every process that maps it. It fails with EEXIST rather
// than replace what is mapped there.
func MapShared(fd int, addr uintptr, size int) ([]byte, error) {
	p, err := unix.MmapPtr(fd, 0, pointer(addr), uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE)
	if err != nil {
		return nil, err
	}
	if uintptr(p) != addr { // kernels before 4.17 take the flag as a hint
		_ = unix.MunmapPtr(p, uintptr(size))
		return nil, unix.EEXIST
	}
	return unsafe.Slice((*byte)(p), size), nil
}

// UnmapShared frees memory that [MapShared] gave.
func UnmapShared(b []byte) error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
}

// Memfd makes an anonymous file of size bytes that can be mapped by several
// processes. name is for the reader of /proc.
func Memfd(name string, size int64) (fd int, err error) {
	fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Address returns where b begins.
func Address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// pointer turns an address that only the kernel reads into a pointer, in the
// form that go vet knows to be no mistake.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }
