package imagefs

import "github.com/sluicefs/sluice/image"

// nodes turns an image's inode numbers (NIDs) into node ids and back. They
// are the same numbers but for three: FUSE wants the root to be 1 and knows
// no node 0, so the root becomes 1, and inodes that have 0 or 1 as their
// numbers get ids from the top of the range.
type nodes struct{ root uint64 }

const (
	idRoot = 1
	// Ids of inodes that are numbered 0 and 1 without being the root.
	idZero = 1 << 63
	idOne  = 1<<63 + 1
)

// id returns the node id of nid; an error for a NID that no id is left for.
func (n nodes) id(nid uint64) (uint64, error) {
	switch {
	case nid == n.root:
		return idRoot, nil
	case nid == 0:
		return idZero, nil
	case nid == 1:
		return idOne, nil
	case nid >= idZero:
		return 0, &image.FormatError{Format: "image", Offset: -1, What: "inode number of 2^63 or more"}
	}
	return nid, nil
}

// nid returns the inode number behind a node id. An id that was never given
// out gives a number that the tree will refuse.
func (n nodes) nid(id uint64) uint64 {
	switch id {
	case idRoot:
		return n.root
	case idZero:
		return 0
	case idOne:
		return 1
	}
	return id
}
