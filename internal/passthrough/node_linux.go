package passthrough

import (
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// statMask is what a look-up asks the file system below for.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// A node is a file that the kernel knows.
type node struct {
	id   uint64
	key  identity
	mode uint32  // file type
	rec  *record // nil for the root
	gone bool    // forgotten; guarded by the shard's mu
	last sys.LastOpen

	fd sys.CachedFD // O_PATH; the only way to the file if it has no handle

	mu sync.Mutex // guards opening and closing files
	rd sys.CachedFD
	wr sys.CachedFD

	written bool // the backing file is open for writing
	resting bool // in the queue of files that are kept open
	dead    bool // rec is not n's any more
}

func identityOf(st *unix.Statx_t) identity {
	k := identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		k.birth = uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	return k
}

func (f *FS) shard(k identity) *shard {
	return &f.shards[(k.ino*0x9e3779b97f4a7c15>>40)%shardCount]
}

// node returns the node of an id, or nil.
func (f *FS) node(id uint64) *node {
	if id == fuse.FUSE_ROOT_ID {
		return f.root
	}
	page := f.nodes[id&(1<<slotBits-1)/segRecords].Load()
	if page == nil {
		return nil
	}
	if n := page[id%segRecords].Load(); n != nil && n.id == id {
		return n
	}
	return nil
}

// index returns the place of the node with an id.
func (f *FS) index(id uint64) *atomic.Pointer[node] {
	p := &f.nodes[id&(1<<slotBits-1)/segRecords]
	if p.Load() == nil {
		p.CompareAndSwap(nil, new([segRecords]atomic.Pointer[node]))
	}
	return &p.Load()[id%segRecords]
}

// refer gives the kernel a reference to the file that has a name in the open
// directory dir, and the attributes st; a file that was not known becomes a
// node. If the name was another's meanwhile, st becomes that file's.
func (f *FS) refer(dir int, name string, st *unix.Statx_t) (*node, syscall.Errno) {
	if n := f.again(identityOf(st)); n != nil {
		return n, 0
	}
	for {
		n := &node{}
		var h sys.Handle
		if errno := f.find(n, dir, name, &h); errno != 0 {
			return nil, errno
		}
		before := identityOf(st)
		if errno := n.stat(dir, name, st); errno != 0 {
			n.close()
			return nil, errno
		}
		if h.Size > 0 && identityOf(st) != before {
			continue // the handle may be either file's
		}
		return f.add(n, &h, st)
	}
}

// referOpen is refer for a file that fd is open on, perhaps as an O_PATH
// descriptor; so it is that file for certain.
func (f *FS) referOpen(fd, dir int, name string, st *unix.Statx_t) (*node, syscall.Errno) {
	if n := f.again(identityOf(st)); n != nil {
		return n, 0
	}
	var h sys.Handle
	if f.handles {
		if mountID, errno := sys.HandleAt(fd, "", &h); errno == 0 && mountID == f.mountID {
			return f.add(&node{}, &h, st)
		}
	}
	return f.refer(dir, name, st)
}

// find tells how the file of a name can be reached: by its handle h if that is
// possible, else, h being empty, by a descriptor of n that stays open.
func (f *FS) find(n *node, dir int, name string, h *sys.Handle) syscall.Errno {
	if f.handles {
		mountID, errno := sys.HandleAt(dir, name, h)
		switch {
		case errno == 0 && mountID == f.mountID, errno == syscall.ENOENT:
			return errno
		}
		h.Size = 0
	}
	fd, errno := sys.OpenAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errno == 0 {
		n.setFD(fd)
	}
	return errno
}

// setFD gives n, which nobody else has yet, its descriptor.
func (n *node) setFD(fd int) {
	n.fd.Set(fd)
	n.fd.Put()
}

// stat asks for the attributes of what find has found.
func (n *node) stat(dir int, name string, st *unix.Statx_t) syscall.Errno {
	if fd := n.fd.Use(); fd >= 0 {
		defer n.fd.Put()
		return sys.StatAt(fd, "", statMask, st)
	}
	return sys.StatAt(dir, name, statMask, st)
}

// again gives one more reference to a node that is known, or returns nil.
func (f *FS) again(k identity) *node {
	sh := f.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.known[k]
	if n != nil && n != f.root {
		n.rec.lookups.Add(1)
	}
	return n
}

// add makes n known, with one reference, unless it is by now.
func (f *FS) add(n *node, h *sys.Handle, st *unix.Statx_t) (*node, syscall.Errno) {
	n.key, n.mode = identityOf(st), uint32(st.Mode)&syscall.S_IFMT
	sh := f.shard(n.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if known := sh.known[n.key]; known != nil {
		n.close()
		if known != f.root {
			known.rec.lookups.Add(1)
		}
		return known, 0
	}
	if errno := f.number(n, h); errno != 0 {
		n.close()
		return nil, errno
	}
	f.index(n.id).Store(n)
	sh.known[n.key] = n
	return n, 0
}

// number gives n an id and a record. A file on another file system than the
// root's has an empty handle, and a successor cannot find it.
func (f *FS) number(n *node, h *sys.Handle) syscall.Errno {
	r, id, err := f.table.alloc()
	if err != nil {
		return errnoOf(err)
	}
	r.mode, r.key, r.handle = n.mode, n.key, *h
	r.lookups.Store(1)
	r.opens.Store(0)
	n.rec, n.id = r, id
	r.id.Store(id)
	return 0
}

// unrefer takes references back, and forgets n with the last.
func (f *FS) unrefer(n *node, count int64) {
	sh := f.shard(n.key)
	sh.mu.Lock()
	if n.gone || n.rec.lookups.Add(-count) > 0 {
		sh.mu.Unlock()
		return
	}
	n.gone = true
	delete(sh.known, n.key)
	f.index(n.id).Store(nil)
	sh.mu.Unlock()
	n.mu.Lock()
	f.endBacking(n)
	n.dead = true // its record will be another's
	n.mu.Unlock()
	n.close()
	f.table.release(n.rec)
}

// close closes what n has open. Nobody uses it any more.
func (n *node) close() {
	n.fd.Drop()
	n.rd.Drop()
	n.wr.Drop()
}

// use returns an O_PATH descriptor of n, to be ended by n.fd.Put.
func (f *FS) use(n *node) (int, syscall.Errno) {
	for {
		if fd := n.fd.Use(); fd >= 0 {
			return fd, 0
		}
		fd, errno := f.reach(n, unix.O_PATH|unix.O_NOFOLLOW)
		if errno != 0 {
			return -1, errno
		}
		if n.fd.Set(fd) {
			f.fds.Add(&n.fd)
			return fd, 0
		}
		unix.Close(fd) // another one was quicker
	}
}

// reach opens the file of n anew.
func (f *FS) reach(n *node, flags int) (int, syscall.Errno) {
	if n == f.root {
		return sys.OpenAt(f.rootFD, ".", flags, 0)
	}
	if n.rec.handle.Size == 0 {
		return -1, syscall.ESTALE
	}
	return sys.OpenHandle(f.rootFD, &n.rec.handle, flags)
}

// openFile opens the file of n for its data, with flags of open(2).
func (f *FS) openFile(n *node, flags int) (int, syscall.Errno) {
	flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	if fd := n.fd.Use(); fd >= 0 {
		defer n.fd.Put()
		return sys.ReopenFD(fd, flags)
	}
	return f.reach(n, flags|unix.O_NOFOLLOW)
}
