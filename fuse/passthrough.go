package fuse

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse/channel"
)

// RegisterBackingFd tells the kernel of an open file that it can read and
// write in place of ours, and returns its id, for OpenOut.BackingID together
// with FOPEN_PASSTHROUGH. It must be given back with UnregisterBackingFd. The
// errno is ENOSYS where passthrough is not in use (Transport says why), EPERM
// where the process may not (it takes CAP_SYS_ADMIN),
// EACCES where this file may not be passed through.
//
// All opens of one inode that are open at a time must use the same backing
// file; [Server.Passthrough] sees to that.
//
// Under HANDLE_KILLPRIV_V2 whoever writes to the file loses it its set-id bits,
// root too. So a file with the set-group-id bit but not the execution bit of its
// group, which members of the group do not take the bit from, gives EACCES.
func (s *Server) RegisterBackingFd(m *BackingMap) (int32, syscall.Errno) {
	b, ok := s.ch.(channel.Backer)
	if !ok || s.e.params.Flags&CAP_PASSTHROUGH == 0 {
		return 0, syscall.ENOSYS
	}
	if s.e.params.Flags&CAP_HANDLE_KILLPRIV_V2 == 0 {
		id, err := b.BackingOpen(int(m.Fd), m.Flags)
		return id, toErrno(err)
	}
	if keepsSetGID(int(m.Fd)) {
		return 0, syscall.EACCES
	}
	// The kernel will write to the file with the credentials of now and tell
	// nobody; without the privilege to keep set-id bits, they go.
	var id int32
	var err error
	if !withoutFSETID(func() { id, err = b.BackingOpen(int(m.Fd), m.Flags) }) && err == nil {
		_ = b.BackingClose(id)
		id, err = 0, syscall.EPERM
	}
	return id, toErrno(err)
}

// UnregisterBackingFd gives an id back. Files that are open with it go on.
func (s *Server) UnregisterBackingFd(id int32) syscall.Errno {
	b, ok := s.ch.(channel.Backer)
	if !ok {
		return syscall.ENOSYS
	}
	return toErrno(b.BackingClose(id))
}

// toErrno makes an errno of an error, EIO if it has none.
func toErrno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	return ToStatus(err).errno()
}

// Passthrough decides, open by open, whether the kernel serves a file by
// itself. The kernel wants all opens of one inode to be of one kind, and those
// with a backing file to have the same: an open that breaks the rule fails
// with EIO. So the first open of an inode decides, and later ones follow for
// as long as any is open; ids are shared and counted. Where a backing file
// cannot be had the open is an ordinary one, and Reason says why.
//
// It is safe for concurrent use.
type Passthrough struct {
	s *Server

	mu     sync.Mutex // guards what is below; held over registering, never over a handler
	inodes map[uint64]*backed
	off    error // why no more is tried
	last   error // why the last one failed
}

// backed is an inode with open files.
type backed struct {
	id    int32 // 0: ordinary opens
	opens int
}

// Passthrough returns the session's decider.
func (s *Server) Passthrough() *Passthrough {
	s.passOnce.Do(func() { s.pass = &Passthrough{s: s, inodes: make(map[uint64]*backed)} })
	return s.pass
}

// Open completes out, the answer to an OPEN or CREATE of node, whose data are
// those of the open file fd from its first byte to its last, for the kernel to
// serve by itself. It reports whether that was possible; if not, out is as it
// was, less what does not go with other opens of node. fd may be closed after
// the call. Each Open is paired with one Close, at RELEASE, whatever the
// result.
func (p *Passthrough) Open(node uint64, fd int, out *OpenOut) bool {
	return p.open(node, fd, out)
}

// OpenOrdinary is Open for an open that has no backing file: it keeps later
// ones from having one while this one is open.
func (p *Passthrough) OpenOrdinary(node uint64, out *OpenOut) { p.open(node, -1, out) }

func (p *Passthrough) open(node uint64, fd int, out *OpenOut) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.inodes[node]
	if b == nil {
		b = &backed{}
		if fd >= 0 {
			b.id = p.register(fd)
		}
		p.inodes[node] = b
	}
	b.opens++
	if b.id == 0 {
		out.OpenFlags &^= FOPEN_PASSTHROUGH
		out.BackingID = 0
		return false
	}
	out.OpenFlags &^= FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR
	out.OpenFlags |= FOPEN_PASSTHROUGH
	out.BackingID = b.id
	return true
}

// register returns an id for fd, or 0.
func (p *Passthrough) register(fd int) int32 {
	if p.off != nil {
		return 0
	}
	id, errno := p.s.RegisterBackingFd(&BackingMap{Fd: int32(fd)})
	switch errno {
	case 0:
		return id
	case syscall.EPERM, syscall.ENOSYS, syscall.ENOTTY, syscall.EOPNOTSUPP: // will not change
		p.off = p.why(errno)
		p.last = p.off
	default: // this file's own: EACCES, EMFILE, ELOOP of a stacked file system, EISDIR
		p.last = fmt.Errorf("register a backing file: %w", errno)
	}
	return 0
}

func (p *Passthrough) why(errno syscall.Errno) error {
	if why := p.s.Transport().Off["passthrough"]; why != "" {
		return fmt.Errorf("register a backing file: %s: %w", why, errno)
	}
	if errno == syscall.EPERM {
		return fmt.Errorf("register a backing file: CAP_SYS_ADMIN in the initial user namespace is needed: %w", errno)
	}
	return fmt.Errorf("register a backing file: %w", errno)
}

// Close ends one open of node.
func (p *Passthrough) Close(node uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.inodes[node]
	if b == nil {
		return
	}
	if b.opens--; b.opens > 0 {
		return
	}
	delete(p.inodes, node)
	if b.id != 0 {
		if errno := p.s.UnregisterBackingFd(b.id); errno != 0 {
			p.last = fmt.Errorf("give backing file %d back: %w", b.id, errno)
		}
	}
}

// Reason returns why the last file that could not be passed through could
// not, or nil.
func (p *Passthrough) Reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Backing returns the ids in use, by node, for a session's successor.
func (p *Passthrough) Backing() map[uint64]int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make(map[uint64]int32)
	for node, b := range p.inodes {
		if b.id != 0 {
			ids[node] = b.id
		}
	}
	return ids
}
