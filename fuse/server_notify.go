package fuse

// notifications are the calls of go-fuse's API that tell the kernel something
// and return what it said. They wait for that; but when the kernel does not
// answer soon, because the calling handler's answer or a lock that a handler
// needs is in its way, they return OK with the notification queued. See
// [Notifier] for calls that never wait.
type notifications struct{ q *Notifier }

// InodeNotify drops node's attributes and the cached data from off on: length
// bytes, or all if length is 0 or negative. A negative off drops the
// attributes only. ENOENT means that the kernel does not know the node.
func (s notifications) InodeNotify(node uint64, off int64, length int64) Status {
	return s.q.await(s.q.Inode(node, off, length))
}

// EntryNotify drops a name of a directory: use it when something appeared or
// vanished there behind the kernel's back.
func (s notifications) EntryNotify(parent uint64, name string) Status {
	return s.q.await(s.q.Entry(parent, name))
}

// DeleteNotify is EntryNotify for a name that was child's and is gone; those
// who watch child, or work in it, are told.
func (s notifications) DeleteNotify(parent uint64, child uint64, name string) Status {
	return s.q.await(s.q.Delete(parent, child, name))
}

// InodeNotifyStoreCache puts a copy of data into the kernel's cache of a
// regular file, in pieces of what a message carries.
func (s notifications) InodeNotifyStoreCache(node uint64, offset int64, data []byte) Status {
	for {
		piece := data[:min(len(data), s.q.maxStore())]
		if st := s.q.await(s.q.Store(node, offset, piece)); st != OK {
			return st
		}
		data = data[len(piece):]
		offset += int64(len(piece))
		if len(data) == 0 {
			return OK
		}
	}
}

// InodeRetrieveCache fills dest with what the kernel has cached of node from
// offset on and returns how many bytes that were, which may be fewer or none.
// It waits for the kernel, so beneath a handler it is refused with EDEADLK.
func (s notifications) InodeRetrieveCache(node uint64, offset int64, dest []byte) (n int, st Status) {
	if inHandler() {
		return 0, edeadlk
	}
	for n < len(dest) {
		a := s.q.Retrieve(node, offset+int64(n), dest[n:])
		<-a.Done()
		if a.st != OK {
			if n > 0 {
				break
			}
			return 0, a.st
		}
		n += a.n
		if a.n < min(len(dest)-n+a.n, s.q.maxRetrieve()) || a.n == 0 {
			break
		}
	}
	return n, OK
}

// PruneNotify asks the kernel to forget nodes that nobody uses. ENOSYS before
// protocol 7.45.
func (s notifications) PruneNotify(nodes []uint64) Status {
	const most = 8192
	for {
		part := nodes[:min(len(nodes), most)]
		if st := s.q.await(s.q.Prune(part)); st != OK {
			return st
		}
		if nodes = nodes[len(part):]; len(nodes) == 0 {
			return OK
		}
	}
}
