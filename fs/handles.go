package fs

import (
	"sync/atomic"
)

// openFile is an open file or directory of the kernel.
type openFile struct {
	handle FileHandle
	inode  *Inode
	node   uint64        // the id by which the kernel knew the inode when it opened it
	id     atomic.Uint64 // the kernel's handle
	dir    *dirReader

	state atomic.Int32  // users, or'ed with closing
	idle  chan struct{} // closed by the last user once closing is set

	next, prev  *openFile // in inode.files, guarded by inode.mu
	passthrough bool      // counted in backings
}

const closing = 1 << 30

// embedsOpenFile is a handle that has room for its openFile, which saves an
// allocation. It must be used for one open only.
type embedsOpenFile interface {
	openFile() *openFile
}

// register makes f, an open handle on n, known; nil if there are too many.
func (b *rawBridge) register(n *Inode, f FileHandle) *openFile {
	var of *openFile
	if e, ok := f.(embedsOpenFile); ok {
		of = e.openFile()
	}
	if of == nil || of.inode != nil {
		of = new(openFile)
	}
	of.handle, of.inode = f, n
	of.state.Store(0)
	n.mu.Lock()
	of.node = n.id
	if n.files != nil {
		n.files.prev = of
	}
	of.next, n.files = n.files, of
	n.mu.Unlock()
	id, ok := b.files.put(of)
	if !ok {
		of.leave()
		return nil
	}
	of.id.Store(id)
	return of
}

// unregister ends a handle: when it returns nobody uses it any more. nil if
// there is no such handle.
func (b *rawBridge) unregister(id uint64) *openFile {
	of := b.files.remove(id)
	if of == nil {
		return nil
	}
	of.leave()
	if of.state.CompareAndSwap(0, closing) { // as a rule
		return of
	}
	of.idle = make(chan struct{})
	if of.state.Or(closing) != 0 {
		<-of.idle
	}
	return of
}

func (of *openFile) leave() {
	n := of.inode
	n.mu.Lock()
	defer n.mu.Unlock()
	if of.prev != nil {
		of.prev.next = of.next
	} else if n.files == of {
		n.files = of.next
	}
	if of.next != nil {
		of.next.prev = of.prev
	}
	of.next, of.prev = nil, nil
}

// file returns the handle of an id that was opened on a node; nil if there is
// none. The caller ends its use with put.
func (b *rawBridge) file(node, id uint64) *openFile {
	of := b.files.get(id)
	if of == nil || !of.use() {
		return nil
	}
	if of.id.Load() != id || of.node != node { // meanwhile used again, or another's
		of.put()
		return nil
	}
	return of
}

// recycle makes an ended handle ready for another open. It may still be found
// under its old number by a request that came too late: so it becomes usable
// by its state, which is set last.
func (of *openFile) recycle() {
	of.id.Store(0)
	of.handle, of.inode, of.node, of.dir, of.idle, of.passthrough = nil, nil, 0, nil, nil, false
}

// isOpen reports whether there is a handle on n.
func (n *Inode) isOpen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.files != nil
}

// anyOpen returns the handle on n that was opened last, or nil; to be ended
// with put.
func (n *Inode) anyOpen() *openFile {
	n.mu.Lock()
	defer n.mu.Unlock()
	for of := n.files; of != nil; of = of.next {
		if of.use() {
			return of
		}
	}
	return nil
}

func (of *openFile) use() bool {
	for {
		s := of.state.Load()
		if s&closing != 0 {
			return false
		}
		if of.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// put ends a use. A nil openFile is fine.
func (of *openFile) put() {
	if of != nil && of.state.Add(-1) == closing {
		close(of.idle)
	}
}
