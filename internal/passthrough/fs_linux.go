package passthrough

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/sys"
)

// FS is a directory as a file system. It implements [fuse.RawFileSystem] and
// [fuse.Stateful].
type FS struct {
	fuse.RawFileSystem // answers what is not here with ENOSYS

	opts    Options
	path    string
	timeout time.Duration
	rootFD  int // not an O_PATH one: file handles are opened with it
	rootDev uint64
	local   bool   // close(2) below does nothing that can fail
	handles bool   // files can be found again by their handles
	mountID int    // where that is so
	lacks   string // why not

	server atomic.Pointer[fuse.Server]
	noBack atomic.Bool // the kernel takes no backing files

	table *table
	keep  atomic.Bool                                                   // the table is a successor's now
	nodes [maxSegments]atomic.Pointer[[segRecords]atomic.Pointer[node]] // by slot

	shards  [shardCount]shard
	fds     sys.FDCache
	dirs    dirHandles
	resting restingFiles
	open    atomic.Int64 // opens of all files
	root    *node
}

const shardCount = 32

type shard struct {
	mu    sync.Mutex
	known map[identity]*node
}

// New opens the directory at path.
func New(path string, o Options) (*FS, error) {
	if err := o.Cache.Check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), opts: o, path: path, timeout: o.Cache.timeout(), rootFD: fd,
	}
	for i := range f.shards {
		f.shards[i].known = map[identity]*node{}
	}
	f.dirs.next.Store(uint64(time.Now().UnixNano())) // not those of a predecessor
	if err := f.openRoot(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return f, nil
}

func (f *FS) openRoot() error {
	var st unix.Statx_t
	if errno := sys.StatAt(f.rootFD, "", statMask, &st); errno != 0 {
		return &os.PathError{Op: "stat", Path: f.path, Err: errno}
	}
	f.rootDev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	f.root = &node{id: fuse.FUSE_ROOT_ID, key: identityOf(&st), mode: syscall.S_IFDIR}
	f.fds.Limit = cacheLimit()
	var sf unix.Statfs_t
	if unix.Fstatfs(f.rootFD, &sf) == nil {
		f.local = localTypes[int64(sf.Type)]
	}
	f.probeHandles()
	sh := f.shard(f.root.key)
	sh.known[f.root.key] = f.root
	if !f.handles {
		f.opts.Table = ""
	}
	var err error
	f.table, err = createTable(f.opts.Table, f.root.key)
	return err
}

// localTypes are file systems that keep nothing back until close(2).
var localTypes = map[int64]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true,
	unix.TMPFS_MAGIC: true, unix.F2FS_SUPER_MAGIC: true,
}

// probeHandles finds out whether files can be opened by their handles: it
// takes CAP_DAC_READ_SEARCH, and a file system that has them.
func (f *FS) probeHandles() {
	var h sys.Handle
	mountID, errno := sys.HandleAt(f.rootFD, "", &h)
	if errno != 0 {
		f.lacks = fmt.Sprintf("its file system has no file handles that can be kept (%v)", errno)
		return
	}
	fd, errno := sys.OpenHandle(f.rootFD, &h, unix.O_PATH)
	if errno != 0 {
		f.lacks = fmt.Sprintf("its files cannot be opened by their handles (%v)", errno)
		return
	}
	unix.Close(fd)
	f.mountID, f.handles = mountID, true
}

// cacheLimit is how many descriptors may be kept for nodes: a quarter of what
// the process may open.
func cacheLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 64
	}
	return int(min(max(l.Cur/4, 16), 16384))
}

// Transferable says why a successor could not go on with the file system, nil
// if it can.
func (f *FS) Transferable() error {
	switch {
	case f.lacks != "":
		return fmt.Errorf("%s: %s", f.path, f.lacks)
	case f.opts.Table == "":
		return fmt.Errorf("%s: no table of nodes is kept", f.path)
	}
	return nil
}

// savedState is the whole state besides the table.
type savedState struct {
	Version int    `json:"version"`
	Table   string `json:"table"`
}

const stateVersion = 1

// SaveState tells where the table is: that is all a successor needs, also much
// later.
func (f *FS) SaveState() ([]byte, error) {
	if err := f.Transferable(); err != nil {
		return nil, err
	}
	return json.Marshal(savedState{Version: stateVersion, Table: f.opts.Table})
}

// RestoreState goes on with the table of a predecessor, in place of the own
// one.
func (f *FS) RestoreState(b []byte) error {
	var s savedState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("state of %s: %w", f.path, err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("state of %s: version %d, this program reads %d", f.path, s.Version, stateVersion)
	}
	if err := f.Transferable(); err != nil {
		return err
	}
	t, err := openTable(s.Table, f.root.key)
	if err != nil {
		return err
	}
	if err := f.table.close(true); err != nil {
		f.opts.Log.Warn("table of nodes", "error", err)
	}
	f.opts.Table, f.table = s.Table, t
	t.each(func(id uint64, r *record) {
		n := &node{id: id, rec: r, key: r.key, mode: r.mode}
		f.index(id).Store(n)
		f.shard(n.key).known[n.key] = n
		f.open.Add(int64(max(r.opens.Load(), 0)))
		n.written = r.backing.Load() != 0 && r.opens.Load() > 0 // perhaps, which is not known
		if r.backing.Load() != 0 && !n.written {                // the predecessor kept it open
			n.mu.Lock()
			f.rest(n)
			n.mu.Unlock()
		}
	})
	return nil
}

// HandedOver says that the table is a successor's from now on.
func (f *FS) HandedOver() { f.keep.Store(true) }

// String names the file system.
func (f *FS) String() string { return "passthrough" }

// Init keeps the server, for backing files.
func (f *FS) Init(s *fuse.Server) { f.server.Store(s) }

// OnUnmount closes everything.
func (f *FS) OnUnmount() {
	f.Settle()
	f.table.each(func(id uint64, _ *record) {
		if n := f.node(id); n != nil {
			n.close()
		}
	})
	f.root.close()
	f.dirs.close()
	f.fds.Clear()
	if err := f.table.close(!f.keep.Load()); err != nil {
		f.opts.Log.Warn("table of nodes", "error", err)
	}
	unix.Close(f.rootFD)
}

// resent reports whether a request was given to a predecessor, which may have
// carried it out.
func (f *FS) resent(h *fuse.InHeader) bool {
	s := f.server.Load()
	if s == nil {
		return false
	}
	r := s.Request(h)
	return r != nil && r.Resent()
}

// ino makes the inode number that is shown: that of the file system below,
// changed on other devices than the root's.
func (f *FS) ino(k identity) uint64 {
	return k.ino ^ bits.RotateLeft64(k.dev^f.rootDev, 32)
}

// attr fills in what stat(2) shows.
func (f *FS) attr(st *unix.Statx_t, out *fuse.Attr) {
	out.FromStatx(st)
	out.Ino = f.ino(identityOf(st))
	out.Uid, out.Gid = f.opts.UIDs.shown(st.Uid), f.opts.GIDs.shown(st.Gid)
}

// entry answers a request that gives a reference to n.
func (f *FS) entry(n *node, st *unix.Statx_t, out *fuse.EntryOut) {
	f.attr(st, &out.Attr)
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(f.timeout)
	out.SetAttrTimeout(f.attrTimeout(st))
}

// attrTimeout is how long the kernel may keep attributes.
func (f *FS) attrTimeout(st *unix.Statx_t) time.Duration {
	if hasSetID(st.Mode) {
		return 0
	}
	return f.timeout
}

// Lookup finds a name.
func (f *FS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := f.node(h.NodeId)
	if dir == nil {
		return stale
	}
	fd, errno := f.use(dir)
	if errno != 0 {
		return fuse.Status(errno)
	}
	defer dir.fd.Put()
	dir.last.Looked()
	return fuse.Status(f.lookup(fd, name, out))
}

// lookup gives the kernel a reference to the file of a name in the open
// directory dir.
func (f *FS) lookup(dir int, name string, out *fuse.EntryOut) syscall.Errno {
	var st unix.Statx_t
	if errno := sys.StatAt(dir, name, statMask, &st); errno != 0 {
		return errno
	}
	n, errno := f.refer(dir, name, &st)
	if errno == 0 {
		f.entry(n, &st, out)
	}
	return errno
}

// Forget takes references back.
func (f *FS) Forget(id, count uint64) {
	if n := f.node(id); n != nil && n != f.root {
		f.unrefer(n, int64(count))
	}
}

// GetAttr is stat(2).
func (f *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st unix.Statx_t
	if errno := f.stat(in.NodeId, unix.STATX_BASIC_STATS, &st); errno != 0 {
		return fuse.Status(errno)
	}
	f.attr(&st, &out.Attr)
	out.SetTimeout(f.attrTimeout(&st))
	return fuse.OK
}

// Statx is statx(2).
func (f *FS) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var st unix.Statx_t
	if errno := f.stat(in.NodeId, int(in.SxMask)|unix.STATX_INO|unix.STATX_TYPE|unix.STATX_MODE, &st); errno != 0 {
		return fuse.Status(errno)
	}
	out.FromStatx(&st)
	out.Ino = f.ino(identityOf(&st))
	out.Uid, out.Gid = f.opts.UIDs.shown(st.Uid), f.opts.GIDs.shown(st.Gid)
	out.SetTimeout(f.attrTimeout(&st))
	return fuse.OK
}

func (f *FS) stat(id uint64, mask int, st *unix.Statx_t) syscall.Errno {
	return f.with(id, func(_ *node, fd int) syscall.Errno { return sys.StatAt(fd, "", mask, st) })
}

// with calls do with the node of an id and a descriptor, perhaps an O_PATH one,
// of its file.
func (f *FS) with(id uint64, do func(n *node, fd int) syscall.Errno) syscall.Errno {
	n := f.node(id)
	if n == nil {
		return syscall.ESTALE
	}
	fd, errno := f.use(n)
	if errno != 0 {
		return errno
	}
	defer n.fd.Put()
	return do(n, fd)
}

// SetAttr changes attributes.
func (f *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st unix.Statx_t
	errno := f.with(in.NodeId, func(n *node, fd int) syscall.Errno {
		if errno := f.setOwner(fd, in); errno != 0 {
			return errno
		}
		if mode, ok := in.GetMode(); ok { // behind chown, which clears set-id bits
			if n.mode == syscall.S_IFLNK {
				return syscall.EOPNOTSUPP
			}
			if errno := sys.ChmodFD(fd, mode); errno != 0 {
				return errno
			}
			f.unrest(n, mode)
		}
		if size, ok := in.GetSize(); ok {
			if errno := f.truncateBy(n, int64(size), in.Valid&fuse.FATTR_KILL_SUIDGID != 0, &in.Caller); errno != 0 {
				return errno
			}
		}
		if errno := setTimes(fd, &in.SetAttrInCommon); errno != 0 {
			return errno
		}
		return sys.StatAt(fd, "", unix.STATX_BASIC_STATS, &st)
	})
	if errno != 0 {
		return fuse.Status(errno)
	}
	f.attr(&st, &out.Attr)
	out.SetTimeout(f.attrTimeout(&st))
	return fuse.OK
}

func (f *FS) setOwner(fd int, in *fuse.SetAttrIn) syscall.Errno {
	uid, gid := -1, -1
	if v, ok := in.GetUID(); ok {
		if v, ok = f.opts.UIDs.below(v); !ok {
			return syscall.EINVAL
		}
		uid = int(v)
	}
	if v, ok := in.GetGID(); ok {
		if v, ok = f.opts.GIDs.below(v); !ok {
			return syscall.EINVAL
		}
		gid = int(v)
	}
	if uid == -1 && gid == -1 {
		return 0
	}
	if errno := dropSetIDForUser(fd, &in.Caller); errno != 0 {
		return errno
	}
	return sys.ChownAt(fd, "", uid, gid)
}

// setTimes sets those times that in has.
func setTimes(fd int, in *fuse.SetAttrInCommon) syscall.Errno {
	pick := func(now, set uint32, sec uint64, nsec uint32) unix.Timespec {
		switch {
		case in.Valid&now != 0:
			return unix.Timespec{Nsec: unix.UTIME_NOW}
		case in.Valid&set != 0:
			return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
		}
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	ts := [2]unix.Timespec{
		pick(fuse.FATTR_ATIME_NOW, fuse.FATTR_ATIME, in.Atime, in.Atimensec),
		pick(fuse.FATTR_MTIME_NOW, fuse.FATTR_MTIME, in.Mtime, in.Mtimensec),
	}
	if ts[0].Nsec == unix.UTIME_OMIT && ts[1].Nsec == unix.UTIME_OMIT {
		return 0
	}
	return sys.UtimesFD(fd, &ts)
}

// Readlink reads a symbolic link.
func (f *FS) Readlink(_ <-chan struct{}, h *fuse.InHeader) (target []byte, code fuse.Status) {
	code = fuse.Status(f.with(h.NodeId, func(_ *node, fd int) syscall.Errno {
		var buf [4096]byte
		size, errno := sys.ReadlinkAt(fd, "", buf[:])
		target = append(target, buf[:size]...)
		return errno
	}))
	return target, code
}

// StatFs gives the numbers of the file system below.
func (f *FS) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return fuse.Status(f.with(h.NodeId, func(_ *node, fd int) syscall.Errno {
		var st syscall.Statfs_t
		if err := syscall.Fstatfs(fd, &st); err != nil {
			return errnoOf(err)
		}
		out.FromStatfsT(&st)
		return 0
	}))
}

// Syncfs makes the whole file system below durable.
func (f *FS) Syncfs(<-chan struct{}, *fuse.SyncfsIn) fuse.Status {
	return fuse.Status(errnoOf(unix.Syncfs(f.rootFD)))
}

// Access is asked for mounts without default_permissions only, which let
// everybody in.
func (f *FS) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

// GetXAttr reads an extended attribute.
func (f *FS) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (size uint32, code fuse.Status) {
	code = fuse.Status(f.with(h.NodeId, func(n *node, fd int) syscall.Errno {
		if n.mode == syscall.S_IFLNK && strings.HasPrefix(attr, "user.") {
			return unix.ENODATA
		}
		c, errno := sys.GetxattrFD(fd, attr, dest)
		if errno == syscall.ERANGE {
			c, _ = sys.GetxattrFD(fd, attr, nil)
		}
		size = uint32(max(c, 0))
		if errno == 0 && len(dest) > 0 && isACL(attr) {
			all := func(m IDMap) func(uint32) (uint32, bool) {
				return func(id uint32) (uint32, bool) { return m.shown(id), true }
			}
			mapACL(dest[:size], all(f.opts.UIDs), all(f.opts.GIDs))
		}
		return errno
	}))
	return size, code
}

// ListXAttr lists extended attributes.
func (f *FS) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (size uint32, code fuse.Status) {
	code = fuse.Status(f.with(h.NodeId, func(_ *node, fd int) syscall.Errno {
		c, errno := sys.ListxattrFD(fd, dest)
		if errno == syscall.ERANGE {
			c, _ = sys.ListxattrFD(fd, nil)
		}
		size = uint32(max(c, 0))
		return errno
	}))
	return size, code
}

// SetXAttr sets an extended attribute.
func (f *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	if isACL(attr) && (f.opts.UIDs != nil || f.opts.GIDs != nil) {
		data = append([]byte(nil), data...)
		if !mapACL(data, f.opts.UIDs.below, f.opts.GIDs.below) {
			return fuse.EINVAL
		}
	}
	return fuse.Status(f.with(in.NodeId, func(n *node, fd int) syscall.Errno {
		errno := sys.SetxattrFD(fd, attr, data, int(in.Flags))
		if errno == syscall.EEXIST && f.resent(&in.InHeader) {
			errno = 0
		}
		if errno != 0 || in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID == 0 {
			return errno
		}
		var st unix.Statx_t
		if errno := sys.StatAt(fd, "", unix.STATX_MODE, &st); errno != 0 || st.Mode&syscall.S_ISGID == 0 {
			return errno
		}
		return sys.ChmodFD(fd, uint32(st.Mode)&07777&^syscall.S_ISGID)
	}))
}

// RemoveXAttr removes an extended attribute.
func (f *FS) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	return fuse.Status(f.with(h.NodeId, func(_ *node, fd int) syscall.Errno {
		errno := sys.RemovexattrFD(fd, attr)
		if errno == unix.ENODATA && f.resent(h) {
			errno = 0
		}
		return errno
	}))
}

const stale = fuse.Status(syscall.ESTALE)

// errnoOf makes an errno of what x/sys returns.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
