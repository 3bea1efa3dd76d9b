package cache

import "golang.org/x/sys/unix"

// aroundSize is how much of a chunk the disk is asked for at once when a
// small read finds its bytes not in memory: what the kernel brings around a
// fault of a mapping. A disk takes little longer for it than for one page,
// and other reads of the same chunk then wait no more.
const aroundSize = 128 << 10

// ReadAround is ReadAt within the bytes from lo to hi of the file.
func (f *osFile) ReadAround(p []byte, off, lo, hi int64) (int, error) {
	fd := int(f.number.Load())
	if len(p) >= aroundSize || f.waits.Load() {
		return f.ReadAt(p, off)
	}
	n, err := unix.Preadv2(fd, [][]byte{p}, off, unix.RWF_NOWAIT)
	if n == len(p) && err == nil {
		return n, nil
	}
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		f.waits.Store(true)
	}
	lo = max(lo, off&^(aroundSize-1))
	hi = min(hi, (off+int64(len(p))+aroundSize-1)&^(aroundSize-1))
	if hi-lo > int64(len(p)) {
		_ = unix.Fadvise(fd, lo, hi-lo, unix.FADV_WILLNEED) // only a hint
	}
	return f.ReadAt(p, off)
}

func (f *osFile) Sync() error {
	return retryInterrupted(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func (f *osFile) Punch(off, n int64) error {
	return retryInterrupted(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// Locks of bytes belong to the open file, not to the process (OFD locks):
// closing another descriptor of the same file does not drop them.
func (f *osFile) TryLockByte(off int64) (bool, error) {
	err := f.lockByte(off, unix.F_WRLCK)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

func (f *osFile) UnlockByte(off int64) error { return f.lockByte(off, unix.F_UNLCK) }

func (f *osFile) lockByte(off int64, kind int16) error {
	l := unix.Flock_t{Type: kind, Start: off, Len: 1}
	return retryInterrupted(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l) })
}

// identity mixes the inode's number with its time of birth: numbers are used
// again.
func identity(fd int, inode uint64) uint64 {
	var st unix.Statx_t
	err := retryInterrupted(func() error { return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st) })
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return inode
	}
	return inode*0x9e3779b97f4a7c15 ^ uint64(st.Btime.Sec)*1_000_000_000 ^ uint64(st.Btime.Nsec)
}

func (f *osFile) NextData(off int64) (int64, error) {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return f.Size()
	}
	return at, err
}
