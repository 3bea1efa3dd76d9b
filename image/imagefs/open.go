package imagefs

import (
	"errors"
	"os"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// handleCounted is the handle of an open that fuse.Passthrough counts; others
// have 0.
const handleCounted = 1

// Open answers ENOSYS, after which the kernel opens files without asking and
// keeps their pages for ever; with Options.Passthrough it opens them, and
// hands over a backing file where there is one.
func (f *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	if !f.openAll.Load() {
		return fuse.ENOSYS
	}
	f.counts.opens.Add(1)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	file, eligible := f.opts.Passthrough.Backing(f.ids.nid(in.NodeId))
	if !eligible {
		return fuse.OK
	}
	out.Fh = handleCounted
	if file == nil {
		f.decide.OpenOrdinary(in.NodeId, out)
	} else {
		f.decide.Open(in.NodeId, int(file.Fd()), out)
		file.Close()
	}
	if out.OpenFlags&fuse.FOPEN_PASSTHROUGH != 0 {
		f.counts.passthrough.Add(1)
	}
	return fuse.OK
}

// Release ends what Open began.
func (f *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if in.Fh != handleCounted {
		return // it was opened without asking, or is not eligible
	}
	f.decide.Close(in.NodeId)
	f.opts.Passthrough.Closed(f.ids.nid(in.NodeId))
}

// TryPassthrough finds out whether the kernel takes file, and others of its
// file system, for passthrough. If not it returns why, and files are from
// then on opened as without Options.Passthrough. The file system is mounted.
func (f *FS) TryPassthrough(file *os.File) error {
	s := f.server.Load()
	if s == nil || f.opts.Passthrough == nil {
		return errors.New("passthrough is not in use")
	}
	id, errno := s.RegisterBackingFd(&fuse.BackingMap{Fd: int32(file.Fd())})
	if errno == 0 {
		s.UnregisterBackingFd(id)
		return nil
	}
	f.openAll.Store(false)
	if why := s.Transport().Off["passthrough"]; why != "" {
		return errors.New(why)
	}
	if errno == syscall.EPERM {
		return errors.New("it takes CAP_SYS_ADMIN in the initial user namespace")
	}
	return errno
}
