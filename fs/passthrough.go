package fs

import (
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// backings are the files that the kernel reads and writes by itself, by
// inode. All handles of an inode have to go one way: the first decides, and
// while it or one of its like is open the others follow. mu is a leaf but for
// the ioctls of registering.
type backings struct {
	mu  sync.Mutex
	off bool // the kernel does not take part, or may not for this user
	of  map[*Inode]*backing
}

type backing struct {
	id   int32
	refs int
}

// backer is the part of a server that has backing files.
type backer interface {
	RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno)
	UnregisterBackingFd(id int32) syscall.Errno
}

// usePassthrough lets the kernel do the reads and writes of of if its handle
// and the kernel are for it.
func (b *rawBridge) usePassthrough(of *openFile, out *fuse.OpenOut) {
	p, ok := of.handle.(FilePassthroughFder)
	if !ok {
		return
	}
	b.backing.mu.Lock()
	defer b.backing.mu.Unlock()
	if b.backing.off {
		return
	}
	bk := b.backing.of[of.inode]
	if bk == nil {
		if bk = b.newBacking(of, p); bk == nil {
			return
		}
	}
	bk.refs++
	of.passthrough = true
	out.BackingID = bk.id
	out.OpenFlags |= fuse.FOPEN_PASSTHROUGH
	out.OpenFlags &^= fuse.FOPEN_KEEP_CACHE
}

func (b *rawBridge) newBacking(of *openFile, p FilePassthroughFder) *backing {
	server, ok := b.callbacks().(backer)
	if !ok {
		b.backing.off = true
		return nil
	}
	n := of.inode
	n.mu.Lock()
	alone := n.files == of && of.next == nil
	n.mu.Unlock()
	if !alone { // there is a handle that goes through the page cache
		return nil
	}
	fd, ok := p.PassthroughFd()
	if !ok {
		return nil
	}
	id, errno := server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno != 0 {
		b.backing.off = errno != syscall.EACCES // which is about this file alone
		return nil
	}
	bk := &backing{id: id}
	if b.backing.of == nil {
		b.backing.of = map[*Inode]*backing{}
	}
	b.backing.of[n] = bk
	return bk
}

// endPassthrough takes back what usePassthrough gave to of.
func (b *rawBridge) endPassthrough(of *openFile) {
	if !of.passthrough {
		return
	}
	b.backing.mu.Lock()
	defer b.backing.mu.Unlock()
	bk := b.backing.of[of.inode]
	if bk.refs--; bk.refs > 0 {
		return
	}
	delete(b.backing.of, of.inode)
	if len(b.backing.of) == 0 {
		b.backing.of = nil
	}
	if errno := b.callbacks().(backer).UnregisterBackingFd(bk.id); errno != 0 {
		b.logf("inode %s: backing file %d: %v", of.inode.StableAttr(), bk.id, errno)
	}
}
