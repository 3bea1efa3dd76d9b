package fs

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluicefs/sluice/internal/sys"
	"golang.org/x/sys/unix"
)

// statMask is what a stat asks the file system below for.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// loopbackState is what a LoopbackRoot keeps open.
type loopbackState struct {
	fd    atomic.Int32 // of the root + 1; 0: not open
	umask uint32       // of this process, which new files lose
	local bool         // close(2) of a file below does nothing that can fail
	dirs  sys.FDCache
	mu    sync.Mutex
}

// rootFD returns the descriptor of the root.
func (r *LoopbackRoot) rootFD() (int, syscall.Errno) {
	if fd := r.open.fd.Load(); fd > 0 {
		return int(fd - 1), 0
	}
	r.open.mu.Lock()
	defer r.open.mu.Unlock()
	if fd := r.open.fd.Load(); fd > 0 {
		return int(fd - 1), 0
	}
	fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR { // a single file shown as a file system
		fd, err = unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, ToErrno(err)
	}
	r.once.Do(func() {
		r.open.umask = processUmask()
		var st unix.Statfs_t
		if unix.Fstatfs(fd, &st) == nil {
			r.open.local = isLocal(int64(st.Type))
		}
		r.open.dirs.Limit = fdCacheSize()
	})
	r.open.fd.Store(int32(fd) + 1)
	return fd, 0
}

// closeRoot gives back all descriptors; they are opened again if needed.
func (r *LoopbackRoot) closeRoot() {
	r.open.mu.Lock()
	defer r.open.mu.Unlock()
	if fd := r.open.fd.Swap(0); fd > 0 {
		unix.Close(int(fd - 1))
	}
	r.open.dirs.Clear()
}

func processUmask() uint32 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "Umask:"); ok {
			m, _ := strconv.ParseUint(strings.TrimSpace(s), 8, 32)
			return uint32(m)
		}
	}
	return 0
}

// isLocal reports whether a file system keeps nothing back until close(2).
func isLocal(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.F2FS_SUPER_MAGIC, unix.RAMFS_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1:
		return true
	}
	return false
}

// fdCacheSize is how many directories may be kept open: an eighth of what the
// process may open.
func fdCacheSize() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 64
	}
	return int(min(max(l.Cur/8, 16), 16384))
}

// dirDescriptor is the descriptor of a directory.
type dirDescriptor = sys.CachedFD

// isRoot reports whether n is the top of its loopback.
func (n *LoopbackNode) isRoot() bool {
	if r := n.RootData.RootNode; r != nil {
		return r.embed() == n.embed()
	}
	return n.embed().IsRoot()
}

// useDir returns a descriptor of the directory n, to be ended by doneDir.
func (n *LoopbackNode) useDir() (int, syscall.Errno) {
	if n.isRoot() {
		return n.RootData.rootFD()
	}
	if fd := n.dirFD.Use(); fd >= 0 {
		return fd, 0
	}
	fd, errno := n.openPath(unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW)
	if errno != 0 {
		return -1, errno
	}
	if n.dirFD.Set(fd) {
		n.RootData.open.dirs.Add(&n.dirFD)
		return fd, 0
	}
	unix.Close(fd) // another one was quicker
	return n.useDir()
}

func (n *LoopbackNode) doneDir() {
	if !n.isRoot() {
		n.dirFD.Put()
	}
}

// parentDir returns the node of the directory that n has a name in.
func (n *LoopbackNode) parentDir() (p *LoopbackNode, name string) {
	name, dir := n.embed().Parent()
	if dir == nil {
		return nil, ""
	}
	l, ok := dir.ops.(loopbackEmbedder)
	if !ok {
		return nil, ""
	}
	return l.loopbackNode(), name
}

// at calls f with a directory and the name that n has in it, and again if a
// rename got in between. ESTALE from f says that the name is another file's;
// ENOENT is answered if n has no name, or the name is gone.
func (n *LoopbackNode) at(f func(dir int, name string) syscall.Errno) syscall.Errno {
	errno := syscall.ENOENT
	for range 5 {
		p, name := n.parentDir()
		if p == nil {
			return n.atPath(f)
		}
		dir, err := p.useDir()
		if err != 0 {
			errno = err
		} else {
			errno = f(dir, name)
			p.doneDir()
		}
		if errno != syscall.ESTALE && errno != syscall.ENOENT {
			return errno
		}
		if p2, name2 := n.parentDir(); errno == syscall.ENOENT && p2 == p && name2 == name {
			break
		}
	}
	return n.atOtherNames(f, errno)
}

// atOtherNames is at for the older names of a file with several. Without
// success errno stays the answer.
func (n *LoopbackNode) atOtherNames(f func(dir int, name string) syscall.Errno, errno syscall.Errno) syscall.Errno {
	for _, l := range n.embed().olderLinks() {
		p, ok := l.parent.ops.(loopbackEmbedder)
		if !ok {
			continue
		}
		dir, err := p.loopbackNode().useDir()
		if err != 0 {
			continue
		}
		err = f(dir, l.name)
		p.loopbackNode().doneDir()
		if err != syscall.ENOENT && err != syscall.ESTALE {
			return err
		}
	}
	return errno
}

// atPath is at for a node whose parent is not of the loopback, but of a tree
// that was put together otherwise: its place below the root is its path in
// that tree.
func (n *LoopbackNode) atPath(f func(dir int, name string) syscall.Errno) syscall.Errno {
	if !n.grafted() {
		return syscall.ENOENT
	}
	root, errno := n.RootData.rootFD()
	if errno != 0 {
		return errno
	}
	names := strings.Split(n.embed().Path(n.embed().Root()), "/")
	dir := root
	for _, name := range names[:len(names)-1] {
		next, errno := sys.OpenAt(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if dir != root {
			unix.Close(dir)
		}
		if errno != 0 {
			return errno
		}
		dir = next
	}
	if dir != root {
		defer unix.Close(dir)
	}
	return f(dir, names[len(names)-1])
}

// grafted reports whether the parent of n is not of a loopback.
func (n *LoopbackNode) grafted() bool {
	p, _ := n.parentDir()
	_, parent := n.embed().Parent()
	return p == nil && parent != nil
}

// openPath opens the file of n with flags, and makes sure that it is the one.
func (n *LoopbackNode) openPath(flags int) (fd int, errno syscall.Errno) {
	if n.isRoot() {
		root, errno := n.RootData.rootFD()
		if errno != 0 {
			return -1, errno
		}
		return sys.OpenAt(root, ".", flags, 0)
	}
	fd = -1
	errno = n.at(func(dir int, name string) syscall.Errno {
		var errno syscall.Errno
		if fd, errno = sys.OpenAt(dir, name, flags, 0); errno != 0 {
			return errno
		}
		var st unix.Statx_t
		if errno = sys.StatAt(fd, "", unix.STATX_INO|unix.STATX_TYPE|unix.STATX_BTIME, &st); errno == 0 && !n.is(&st) {
			errno = syscall.ESTALE
		}
		if errno != 0 {
			unix.Close(fd)
		}
		return errno
	})
	return fd, errno
}

// withFD calls f with a descriptor, mostly an O_PATH one, of the file of n:
// the cached one of a directory, one opened by name, or that of an open
// handle if the file has no name.
func (n *LoopbackNode) withFD(f func(fd int) syscall.Errno) syscall.Errno {
	if n.IsDir() {
		fd, errno := n.useDir()
		if errno == 0 {
			defer n.doneDir()
			return f(fd)
		}
		return n.withOpen(f, errno)
	}
	if n.isRoot() {
		fd, errno := n.RootData.rootFD()
		if errno != 0 {
			return errno
		}
		return f(fd)
	}
	// An open handle is the quickest way, and the only one to what has no
	// name. The kernel asks for an attribute before many a write.
	if of := n.embed().anyOpen(); of != nil {
		defer of.put()
		if h, ok := of.handle.(descriptor); ok {
			return h.withFD(f)
		}
	}
	fd, errno := n.openPath(unix.O_PATH | unix.O_NOFOLLOW)
	if errno != 0 {
		return errno
	}
	defer unix.Close(fd)
	return f(fd)
}

// descriptor is a handle with a file descriptor.
type descriptor interface {
	withFD(func(fd int) syscall.Errno) syscall.Errno
}

// withOpen calls f with the descriptor of an open handle on n; without one
// errno stays the answer.
func (n *LoopbackNode) withOpen(f func(fd int) syscall.Errno, errno syscall.Errno) syscall.Errno {
	if errno != syscall.ENOENT && errno != syscall.ESTALE {
		return errno
	}
	of := n.embed().anyOpen()
	if of == nil {
		return errno
	}
	defer of.put()
	h, ok := of.handle.(descriptor)
	if !ok {
		return errno
	}
	return h.withFD(f)
}

// stat puts the attributes of n into st.
func (n *LoopbackNode) stat(mask int, st *unix.Statx_t) syscall.Errno {
	if n.isRoot() {
		fd, errno := n.RootData.rootFD()
		if errno != 0 {
			return errno
		}
		return sys.StatAt(fd, "", mask, st)
	}
	if n.IsDir() {
		if fd := n.dirFD.Use(); fd >= 0 {
			defer n.dirFD.Put()
			return sys.StatAt(fd, "", mask, st)
		}
	}
	errno := n.statByName(mask, st)
	if errno == syscall.ENOENT || errno == syscall.ESTALE {
		errno = n.withOpen(func(fd int) syscall.Errno { return sys.StatAt(fd, "", mask, st) }, errno)
	}
	return errno
}

func (n *LoopbackNode) statByName(mask int, st *unix.Statx_t) syscall.Errno {
	// the first try without a closure, which would be allocated
	p, name := n.parentDir()
	if p == nil {
		return n.statAgain(mask, st)
	}
	dir, errno := p.useDir()
	if errno == 0 {
		errno = sys.StatAt(dir, name, mask|statIdentity, st)
		p.doneDir()
		if errno == 0 && n.is(st) {
			return 0
		}
	}
	return n.statAgain(mask, st)
}

const statIdentity = unix.STATX_INO | unix.STATX_TYPE | unix.STATX_BTIME

func (n *LoopbackNode) statAgain(mask int, out *unix.Statx_t) syscall.Errno {
	var st unix.Statx_t
	errno := n.at(func(dir int, name string) syscall.Errno {
		errno := sys.StatAt(dir, name, mask|statIdentity, &st)
		if errno == 0 && !n.is(&st) {
			errno = syscall.ESTALE
		}
		return errno
	})
	*out = st
	return errno
}

// is reports whether st is of the file of n. The identity of a grafted node
// was chosen by somebody else, and says nothing.
func (n *LoopbackNode) is(st *unix.Statx_t) bool {
	return n.embed().StableAttr() == n.RootData.identity(st) || n.grafted()
}

// identity makes the StableAttr of a file: the number is that of the file
// system below, changed on other devices than the root's; the time of birth
// tells apart files that had one number.
func (r *LoopbackRoot) identity(st *unix.Statx_t) StableAttr {
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor)
	a := StableAttr{
		Mode: uint32(st.Mode) & syscall.S_IFMT,
		Ino:  swapHalves(dev) ^ swapHalves(r.Dev) ^ st.Ino,
		Gen:  1,
	}
	if st.Mask&unix.STATX_BTIME != 0 && (st.Btime.Sec != 0 || st.Btime.Nsec != 0) {
		a.Gen = uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	if a.Reserved() || a.Ino == 0 {
		a.Ino ^= 1 << 62
	}
	return a
}

func swapHalves(v uint64) uint64 { return v<<32 | v>>32 }
