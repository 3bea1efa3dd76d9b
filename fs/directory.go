package fs

import (
	"hash/maphash"
	"sync"
)

// directory has the children of an inode of type directory: names in the
// order in which they came, with a hash index once they are many. The zero
// value is an empty directory. mu guards all of it.
type directory struct {
	mu      sync.Mutex
	entries []dirent // a removed one has no node
	live    int
	index   []int32 // position in entries + 1; a power of two long, or nil
}

type dirent struct {
	name string
	node *Inode
}

const indexFrom = 8 // entries; fewer are searched in a row

var hashSeed = maphash.MakeSeed()

// get returns the child of a name, or nil.
func (d *directory) get(name string) *Inode {
	if i := d.find(name); i >= 0 {
		return d.entries[i].node
	}
	return nil
}

func (d *directory) find(name string) int {
	if d.index == nil {
		for i := range d.entries {
			if d.entries[i].node != nil && d.entries[i].name == name {
				return i
			}
		}
		return -1
	}
	mask := uint64(len(d.index) - 1)
	for h := maphash.String(hashSeed, name) & mask; d.index[h] != 0; h = (h + 1) & mask {
		i := int(d.index[h]) - 1
		if e := &d.entries[i]; e.node != nil && e.name == name {
			return i
		}
	}
	return -1
}

// set makes node the child of a name and returns the one that was, and the
// name to keep: the one in the directory, if it was there.
func (d *directory) set(name string, node *Inode) (old *Inode, kept string) {
	if i := d.find(name); i >= 0 {
		old, d.entries[i].node = d.entries[i].node, node
		return old, d.entries[i].name
	}
	if len(d.entries) == cap(d.entries) && len(d.entries) > d.live+d.live/4 {
		d.rebuild()
	}
	d.entries = append(d.entries, dirent{name, node})
	d.live++
	switch {
	case d.index == nil && len(d.entries) <= indexFrom:
	case d.index == nil || len(d.entries) > len(d.index)*3/4:
		d.reindex()
	default:
		d.point(len(d.entries) - 1)
	}
	return nil, name
}

// remove takes a name out and returns its child, or nil.
func (d *directory) remove(name string) *Inode {
	i := d.find(name)
	if i < 0 {
		return nil
	}
	// The place stays taken, so that the index need not change, and so that
	// a list that is under way neither skips nor repeats a name.
	node := d.entries[i].node
	d.entries[i] = dirent{}
	d.live--
	if n := len(d.entries); n > 4*indexFrom && d.live < n/4 || d.live == 0 {
		d.rebuild()
	}
	return node
}

// rebuild closes the gaps, in place unless that would keep much more room than
// there are names.
func (d *directory) rebuild() {
	room := d.live + d.live/4 + 1
	entries := d.entries[:0]
	if cap(entries) > max(indexFrom, 2*room) {
		entries = make([]dirent, 0, room)
	}
	for _, e := range d.entries {
		if e.node != nil {
			entries = append(entries, e)
		}
	}
	if len(entries) < len(d.entries) && cap(entries) == cap(d.entries) {
		clear(d.entries[len(entries):])
	}
	d.entries, d.index = entries, nil
	if len(entries) > indexFrom {
		d.reindex()
	}
}

func (d *directory) reindex() {
	size := 2 * indexFrom
	for len(d.entries) > size*5/8 {
		size *= 2
	}
	d.index = make([]int32, size)
	for i := range d.entries {
		if d.entries[i].node != nil {
			d.point(i)
		}
	}
}

func (d *directory) point(i int) {
	mask := uint64(len(d.index) - 1)
	h := maphash.String(hashSeed, d.entries[i].name) & mask
	for d.index[h] != 0 {
		h = (h + 1) & mask
	}
	d.index[h] = int32(i) + 1
}
