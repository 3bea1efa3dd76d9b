package memfs

import (
	"context"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// Getattr gives the attributes.
func (n *Node) Getattr(ctx context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.mu.Lock()
	defer n.mu.Unlock()
	out.Attr = n.current()
	return 0
}

// Setattr changes attributes.
func (n *Node) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if size, ok := in.GetSize(); ok {
		if size > maxSize {
			return syscall.EFBIG
		}
		n.quota.give(n.data.truncate(int64(size)))
		n.attr.SetTimes(nil, &now, nil)
	}
	if mode, ok := in.GetMode(); ok {
		n.attr.Mode = n.attr.Mode&syscall.S_IFMT | mode&0o7777
	}
	if uid, ok := in.GetUID(); ok {
		n.attr.Uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		n.attr.Gid = gid
	}
	if t, ok := in.GetATime(); ok {
		n.attr.SetTimes(&t, nil, nil)
	}
	if t, ok := in.GetMTime(); ok {
		n.attr.SetTimes(nil, &t, nil)
	}
	n.attr.SetTimes(nil, nil, &now)
	out.Attr = n.current()
	return 0
}

// Open opens a file: the node is its own handle.
func (n *Node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.opened()
	if flags&syscall.O_TRUNC != 0 {
		n.mu.Lock()
		n.quota.give(n.data.truncate(0))
		n.mu.Unlock()
	}
	return nil, fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
}

// opened counts an open file.
func (n *Node) opened() {
	n.mu.Lock()
	n.opens++
	n.mu.Unlock()
}

// Release ends an open file. One that never had a name goes with it.
func (n *Node) Release(ctx context.Context, _ fs.FileHandle) syscall.Errno {
	n.mu.Lock()
	n.opens--
	last := n.opens <= 0 && n.attr.Nlink == 0
	n.mu.Unlock()
	if last {
		n.ForgetPersistent()
	}
	return 0
}

// Read reads data.
func (n *Node) Read(ctx context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off < 0 {
		return nil, syscall.EINVAL
	}
	n.mu.Lock()
	size := n.data.readAt(dest, off)
	n.mu.Unlock()
	return fuse.ReadResultData(dest[:size]), 0
}

// Write writes data.
func (n *Node) Write(ctx context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errno := n.room(off, int64(len(data))); errno != 0 {
		return 0, errno
	}
	n.data.writeAt(data, off)
	now := time.Now()
	n.attr.SetTimes(nil, &now, &now)
	return uint32(len(data)), 0
}

// room makes the pages of [off, off+size) exist; mu is held.
func (n *Node) room(off, size int64) syscall.Errno {
	if off < 0 || size < 0 || off > maxSize-size {
		return syscall.EFBIG
	}
	if errno := n.quota.take(n.data.missing(off, size)); errno != 0 {
		return errno
	}
	n.data.back(off, size)
	return 0
}

const (
	keepSize  = 1 // FALLOC_FL_KEEP_SIZE
	punchHole = 2 // FALLOC_FL_PUNCH_HOLE
	zeroRange = 16
)

// Allocate answers fallocate(2): allocation, holes, zeros.
func (n *Node) Allocate(ctx context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if off > maxSize || size > maxSize-off {
		return syscall.EFBIG
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch mode {
	case keepSize | punchHole:
		n.quota.give(n.data.punch(int64(off), int64(size)))
	case zeroRange, zeroRange | keepSize:
		n.quota.give(n.data.punch(int64(off), int64(size)))
		if errno := n.room(int64(off), int64(size)); errno != 0 {
			return errno
		}
	case 0, keepSize:
		if errno := n.room(int64(off), int64(size)); errno != 0 {
			return errno
		}
	default:
		return syscall.EOPNOTSUPP
	}
	if mode&keepSize == 0 {
		n.data.size = max(n.data.size, int64(off+size))
	}
	now := time.Now()
	n.attr.SetTimes(nil, &now, &now)
	return 0
}

// Lseek finds data and holes.
func (n *Node) Lseek(ctx context.Context, _ fs.FileHandle, off uint64, whence uint32) (uint64, syscall.Errno) {
	const seekData, seekHole = 3, 4
	if whence != seekData && whence != seekHole {
		return 0, syscall.EINVAL
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if off > maxSize {
		return 0, syscall.ENXIO
	}
	at, ok := n.data.seek(int64(off), whence == seekData)
	if !ok {
		return 0, syscall.ENXIO
	}
	return uint64(at), 0
}

// Fsync has nothing to do: there is nothing durable.
func (n *Node) Fsync(ctx context.Context, _ fs.FileHandle, flags uint32) syscall.Errno { return 0 }

// Readlink gives the target of a symbolic link.
func (n *Node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.target, 0 // never changed once set
}

// Statfs tells the limits and what is left.
func (n *Node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	const unlimited = 1 << 40
	q := n.quota
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, maxName
	total, files := q.maxBytes, q.maxInodes
	if total == 0 {
		total = unlimited
	}
	if files == 0 {
		files = unlimited
	}
	out.Blocks = uint64(total) / 4096
	out.Bfree = uint64(max(0, total-q.bytes.Load())) / 4096
	out.Bavail = out.Bfree
	out.Files = uint64(files)
	out.Ffree = uint64(max(0, files-q.inodes.Load()))
	return 0
}

// Getxattr reads an extended attribute.
func (n *Node) Getxattr(ctx context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.xattr[attr]
	if !ok {
		return 0, fs.ENOATTR
	}
	if len(v) > len(dest) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), 0
}

// Setxattr sets an extended attribute.
func (n *Node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	const create, replace = 1, 2
	n.mu.Lock()
	defer n.mu.Unlock()
	old, ok := n.xattr[attr]
	switch {
	case ok && flags&create != 0:
		return syscall.EEXIST
	case !ok && flags&replace != 0:
		return fs.ENOATTR
	case !ok:
		if errno := n.quota.take(int64(len(attr) + len(data))); errno != 0 {
			return errno
		}
	default:
		if errno := n.quota.take(int64(len(data) - len(old))); errno != 0 {
			return errno
		}
	}
	if n.xattr == nil {
		n.xattr = map[string][]byte{}
	}
	n.xattr[attr] = append([]byte{}, data...)
	now := time.Now()
	n.attr.SetTimes(nil, nil, &now)
	return 0
}

// Removexattr removes an extended attribute.
func (n *Node) Removexattr(ctx context.Context, attr string) syscall.Errno {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.xattr[attr]
	if !ok {
		return fs.ENOATTR
	}
	n.quota.give(int64(len(attr) + len(v)))
	delete(n.xattr, attr)
	now := time.Now()
	n.attr.SetTimes(nil, nil, &now)
	return 0
}

// Listxattr lists the extended attributes.
func (n *Node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	size := 0
	for name := range n.xattr {
		size += len(name) + 1
	}
	if size > len(dest) {
		return uint32(size), syscall.ERANGE
	}
	dest = dest[:0]
	for name := range n.xattr {
		dest = append(append(dest, name...), 0)
	}
	return uint32(size), 0
}
