package fs

import (
	"syscall"
	"unsafe"
)

// A change of the tree works on one or two directories under their directory
// locks, and takes the locks of the inodes concerned one after another inside.
// What has lost its last reason to live by the change is dropped afterwards,
// when no lock is held: drop.

// AddChild gives ch a name in n. If n has the name already it is replaced if
// overwrite is set; otherwise AddChild returns false.
func (n *Inode) AddChild(name string, ch *Inode, overwrite bool) (success bool) {
	mustBeName("AddChild", name)
	n.mustBeDir("AddChild")
	n.dir.mu.Lock()
	if !overwrite && n.dir.get(name) != nil {
		n.dir.mu.Unlock()
		return false
	}
	old, stale := n.setChild(name, ch)
	n.dir.mu.Unlock()
	n.cleanUp(old, stale, ch)
	return true
}

// setChild makes ch the child of a name in n, whose directory lock is held.
// What is left to do without the lock goes to cleanUp: old lost the name, and
// stale is where ch, if it is a directory, was before.
func (n *Inode) setChild(name string, ch *Inode) (old *Inode, stale link) {
	old, name = n.dir.set(name, ch)
	if old == ch {
		return nil, link{}
	}
	if old != nil {
		old.unlink(n, name)
	} else {
		n.mu.Lock()
		n.kids++
		n.flags |= alive
		n.mu.Unlock()
	}
	return old, ch.addLink(n, name)
}

func (n *Inode) cleanUp(old *Inode, stale link, ch *Inode) {
	if stale.parent != nil {
		stale.parent.removeStale(stale.name, ch)
	}
	if old != nil {
		old.dropIfUnused()
	}
}

// addLink notes that n has a name in parent. A directory has only one name,
// so for it the one before is returned.
func (n *Inode) addLink(parent *Inode, name string) (stale link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.link.parent != nil {
		if n.mode == syscall.S_IFDIR {
			stale = n.link
		} else {
			if n.more == nil {
				n.more = new([]link)
			}
			*n.more = append(*n.more, n.link)
		}
	}
	n.link = link{parent, name}
	return stale
}

// unlink notes that n no longer has a name in parent.
func (n *Inode) unlink(parent *Inode, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gone := link{parent, name}
	if n.link == gone {
		n.link = link{}
		if n.more != nil {
			last := len(*n.more) - 1
			n.link = (*n.more)[last]
			*n.more = (*n.more)[:last]
			if last == 0 {
				n.more = nil
			}
		}
		return
	}
	if n.more == nil {
		return
	}
	for i, l := range *n.more {
		if l == gone {
			*n.more = append((*n.more)[:i], (*n.more)[i+1:]...)
			break
		}
	}
	if len(*n.more) == 0 {
		n.more = nil
	}
}

// hasLink reports whether n has a name in parent.
func (n *Inode) hasLink(parent *Inode, name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.link == (link{parent, name}) {
		return true
	}
	if n.more != nil {
		for _, l := range *n.more {
			if l == (link{parent, name}) {
				return true
			}
		}
	}
	return false
}

// takeChild removes a name from n, whose directory lock is held, and returns
// its inode. n may have lost its last child by that.
func (n *Inode) takeChild(name string) *Inode {
	ch := n.dir.remove(name)
	if ch == nil {
		return nil
	}
	ch.unlink(n, name)
	n.mu.Lock()
	n.kids--
	n.mu.Unlock()
	return ch
}

// removeStale removes a name of n whose inode ch has gone elsewhere.
func (n *Inode) removeStale(name string, ch *Inode) {
	n.dir.mu.Lock()
	if n.dir.get(name) == ch && !ch.hasLink(n, name) {
		n.takeChild(name)
	}
	n.dir.mu.Unlock()
	n.dropIfUnused()
}

// RmChild removes children of n: all of names, or none if one of them does
// not exist. live tells whether there still is a reason to keep n: if not it
// has been dropped from the tree.
func (n *Inode) RmChild(names ...string) (success, live bool) {
	if n.dir == nil {
		return len(names) == 0, true
	}
	n.dir.mu.Lock()
	for _, name := range names {
		if n.dir.find(name) < 0 {
			n.dir.mu.Unlock()
			return false, true
		}
	}
	for _, name := range names {
		n.takeChild(name)
	}
	n.dir.mu.Unlock()
	return true, n.dropIfUnused()
}

// RmAllChildren removes all that is below n, persistent or not, and makes n
// itself no longer persistent.
func (n *Inode) RmAllChildren() {
	for {
		list := n.childList()
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			e.node.RmAllChildren()
			n.RmChild(e.name)
		}
	}
	n.ForgetPersistent()
}

// ForgetPersistent leaves n to the kernel: if that does not know it, and no
// child is left in it, n is dropped from the tree.
func (n *Inode) ForgetPersistent() {
	n.mu.Lock()
	n.flags &^= persistent
	n.mu.Unlock()
	n.dropIfUnused()
}

// MvChild gives the child old of n the name newName in newParent. If that
// name is taken it is replaced if overwrite is set; otherwise MvChild changes
// nothing and returns false.
func (n *Inode) MvChild(old string, newParent *Inode, newName string, overwrite bool) bool {
	mustBeName("MvChild", newName)
	newParent.mustBeDir("MvChild")
	if n.dir == nil {
		return true
	}
	lockDirs(n, newParent)
	if !overwrite && newParent.dir.get(newName) != nil {
		unlockDirs(n, newParent)
		return false
	}
	n.hold()
	newParent.hold()
	ch := n.dir.get(old)
	if ch == newParent.dir.get(newName) { // none, or two names of one file
		unlockDirs(n, newParent)
		newParent.release()
		n.release()
		return true
	}
	if ch != nil {
		n.takeChild(old)
	}
	var gone *Inode
	var stale link
	if ch != nil {
		gone, stale = newParent.setChild(newName, ch)
	} else {
		gone = newParent.takeChild(newName)
	}
	unlockDirs(n, newParent)
	newParent.cleanUp(gone, stale, ch)
	newParent.release()
	n.release()
	return true
}

// ExchangeChild swaps the children oldName of n and newName of newParent.
func (n *Inode) ExchangeChild(oldName string, newParent *Inode, newName string) {
	mustBeName("ExchangeChild", newName)
	mustBeName("ExchangeChild", oldName)
	n.mustBeDir("ExchangeChild")
	newParent.mustBeDir("ExchangeChild")
	lockDirs(n, newParent)
	n.hold()
	newParent.hold()
	a, b := n.dir.get(oldName), newParent.dir.get(newName)
	if a != b {
		if a != nil {
			n.takeChild(oldName)
		}
		if b != nil {
			newParent.takeChild(newName)
		}
		if a != nil {
			newParent.setChild(newName, a)
		}
		if b != nil {
			n.setChild(oldName, b)
		}
	}
	unlockDirs(n, newParent)
	newParent.release()
	n.release()
}

// hold keeps n from being dropped while its children are on the move.
func (n *Inode) hold() {
	n.mu.Lock()
	n.kids++
	n.mu.Unlock()
}

// release ends hold; no lock may be held.
func (n *Inode) release() {
	n.mu.Lock()
	n.kids--
	n.mu.Unlock()
	n.dropIfUnused()
}

// dropIfUnused takes n out of the tree if it was alive and nothing keeps it:
// no reference of the kernel, no child, not persistent. Its parents may
// follow. It reports whether n is kept. No lock may be held.
func (n *Inode) dropIfUnused() (kept bool) {
	first := true
	for work := []*Inode{n}; len(work) > 0; {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		n.mu.Lock()
		if n.flags&alive == 0 || n.inUse() {
			kept = kept || first && n.inUse()
			n.mu.Unlock()
			first = false
			continue
		}
		first = false
		n.flags &^= alive
		n.mu.Unlock()
		work = n.leaveParents(work)
		if f, ok := n.ops.(NodeOnForgetter); ok && !n.IsRoot() {
			f.OnForget()
		}
	}
	return kept
}

// inUse reports whether there is a reason to keep n. n.mu is held.
func (n *Inode) inUse() bool {
	return n.lookups > 0 || n.kids > 0 || n.flags&persistent != 0 || n.IsRoot()
}

// leaveParents removes all names of n, as long as it stays unused, and
// appends the directories that lost them to work.
func (n *Inode) leaveParents(work []*Inode) []*Inode {
	for {
		name, p := n.Parent()
		if p == nil {
			return work
		}
		p.dir.mu.Lock()
		n.mu.Lock()
		revived := n.inUse()
		here := n.link == link{p, name}
		n.mu.Unlock()
		if revived {
			p.dir.mu.Unlock()
			return work
		}
		if here {
			if p.dir.get(name) == n {
				p.takeChild(name)
			} else {
				n.unlink(p, name)
			}
			work = append(work, p)
		}
		p.dir.mu.Unlock()
	}
}

func lockDirs(a, b *Inode) {
	switch {
	case a == b:
		a.dir.mu.Lock()
	case uintptr(unsafe.Pointer(a)) < uintptr(unsafe.Pointer(b)):
		a.dir.mu.Lock()
		b.dir.mu.Lock()
	default:
		b.dir.mu.Lock()
		a.dir.mu.Lock()
	}
}

func unlockDirs(a, b *Inode) {
	a.dir.mu.Unlock()
	if a != b {
		b.dir.mu.Unlock()
	}
}

func mustBeName(op, name string) {
	if name == "" || name == "." || name == ".." {
		panic("fs: " + op + ": bad name " + name)
	}
}

func (n *Inode) mustBeDir(op string) {
	if n.dir == nil {
		panic("fs: " + op + ": inode " + n.StableAttr().String() + " is not a directory")
	}
}
