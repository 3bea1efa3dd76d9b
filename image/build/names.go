package build

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// entry is a name in a directory.
type entry struct {
	name string
	node *inode // nil: the name has been taken away
}

// dirNames is the entries of a directory: in the order in which they came while
// the tree grows, by name after sort. The zero value is an empty directory.
type dirNames struct {
	list []entry
	// index finds an entry of a directory that has many: a hash table with
	// open addressing of positions in list, from 1. It has a power of two of
	// places, more than the entries.
	index []uint32
}

// few is the most entries that are searched one by one.
const few = 8

// nameSeed is that of the hashes of names. The order of entries does not
// depend on it.
var nameSeed = maphash.MakeSeed()

// get returns what has the name, nil if there is nothing.
func (d *dirNames) get(name string) *inode {
	if i := d.find(name); i >= 0 {
		return d.list[i].node
	}
	return nil
}

// find returns the position of the name, which may have been taken away, or
// -1.
func (d *dirNames) find(name string) int {
	if len(d.list) <= few {
		return slices.IndexFunc(d.list, func(e entry) bool { return e.name == name })
	}
	if d.index == nil {
		d.reindex()
	}
	for at := d.slot(name); d.index[at] != 0; at = (at + 1) % len(d.index) {
		if i := int(d.index[at]) - 1; d.list[i].name == name {
			return i
		}
	}
	return -1
}

// slot is where the search for the name begins.
func (d *dirNames) slot(name string) int {
	return int(maphash.String(nameSeed, name) & uint64(len(d.index)-1))
}

// set gives node the name, which it keeps, in place of what has it.
func (d *dirNames) set(name string, node *inode) {
	if i := d.find(name); i >= 0 {
		d.list[i].node = node
		return
	}
	d.list = append(d.list, entry{name, node})
	switch n := len(d.list); {
	case n <= few:
	case 4*n > 3*len(d.index):
		d.reindex()
	default:
		d.enter(n - 1)
	}
}

// reindex makes the index anew.
func (d *dirNames) reindex() {
	d.index = make([]uint32, 2<<bits.Len(uint(len(d.list))))
	for i := range d.list {
		d.enter(i)
	}
}

// enter puts entry i into the index.
func (d *dirNames) enter(i int) {
	at := d.slot(d.list[i].name)
	for d.index[at] != 0 {
		at = (at + 1) % len(d.index)
	}
	d.index[at] = uint32(i + 1)
}

// remove takes the name away. Its place is kept for when it comes again.
func (d *dirNames) remove(name string) {
	if i := d.find(name); i >= 0 {
		d.list[i].node = nil
	}
}

// sort ends the growth of the directory: its entries are in order then.
func (d *dirNames) sort() {
	if d.index != nil || slices.ContainsFunc(d.list, func(e entry) bool { return e.node == nil }) {
		d.list = slices.DeleteFunc(d.list, func(e entry) bool { return e.node == nil })
		d.index = nil
	}
	byName := func(a, b entry) int { return cmp.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(d.list, byName) {
		slices.SortFunc(d.list, byName)
	}
}

// spelling keeps strings one behind another, so that millions of short ones
// take the room of their bytes.
type spelling struct{ b *strings.Builder }

// keep returns a copy of s.
func (k *spelling) keep(s string) string {
	if k.b == nil || k.b.Cap()-k.b.Len() < len(s) {
		k.b = new(strings.Builder)
		k.b.Grow(max(1<<15, len(s)))
	}
	from := k.b.Len()
	k.b.WriteString(s)
	return k.b.String()[from:]
}
