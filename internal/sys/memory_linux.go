package sys

import (
	"fmt"
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

// NewMemfd makes memory that processes can share: size bytes of zeros behind a
// descriptor, close-on-exec, whose size is sealed. A page takes real memory
// when it is first touched.
func NewMemfd(name string, size int64) (fd int, err error) {
	// Beyond this limit making it larger ends the process by SIGXFSZ.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err == nil && uint64(size) > limit.Cur {
		return -1, fmt.Errorf("shared memory of %d bytes: the limit of file sizes is %d: %w", size, limit.Cur, unix.EFBIG)
	}
	fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err = unix.Ftruncate(fd, size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, memfdSeals)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("memory of %d bytes: %w", size, err)
	}
	return fd, nil
}

// memfdSeals keep a peer from taking away pages that are mapped, which would
// end this process by SIGBUS.
const memfdSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// CheckMemfd reports whether fd is what [NewMemfd] made with that size.
func CheckMemfd(fd int, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("not shared memory: %w", err)
	}
	if st.Size != size || seals&memfdSeals != memfdSeals {
		return fmt.Errorf("shared memory of %d bytes with seals %#x, not of %d with %#x", st.Size, seals, size, memfdSeals)
	}
	return nil
}

// MapShared maps size bytes of fd at addr, or anywhere if that is 0. If
// something else is there the error is EEXIST. Free it with [UnmapShared].
func MapShared(fd, size int, addr uintptr) ([]byte, error) {
	flags := unix.MAP_SHARED | unix.MAP_NORESERVE
	if addr != 0 {
		flags |= unix.MAP_FIXED_NOREPLACE
	}
	// Not memory that Go knows: only the representation is a pointer's.
	at := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	p, err := unix.MmapPtr(fd, 0, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, err
	}
	b := unsafe.Slice((*byte)(p), size)
	if addr != 0 && Address(b) != addr { // a kernel without NOREPLACE takes it as a wish
		_ = UnmapShared(b)
		return nil, unix.EEXIST
	}
	// Content of files has no place in a core dump; failing changes nothing else.
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return b, nil
}

// UnmapShared frees memory that [MapShared] gave.
func UnmapShared(b []byte) error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
}

// DiscardShared is [Discard] for shared memory: the pages are gone for all who
// share it.
func DiscardShared(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_REMOVE) // as in Discard
	}
}

// Populate gives real memory to the pages of b, so that writing them cannot
// fail any more. It is best effort.
func Populate(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	}
}
