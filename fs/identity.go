package fs

import "sync"

// identities finds the inode that the kernel knows under a StableAttr, and by
// inode number alone. It is an open hash table of pointers in shards, which
// shrinks as it empties: about 12 bytes for an inode.
type identities struct {
	shards [identityShards]identityShard
}

const identityShards = 64

type identityShard struct {
	mu    sync.Mutex
	table []*Inode // length 0 or a power of two; linear probing
	n     int
	_     [24]byte
}

func inoHash(ino uint64) uint64 {
	ino ^= ino >> 32
	ino *= 0x9e3779b97f4a7c15
	return ino ^ ino>>29
}

func (t *identities) shard(ino uint64) *identityShard {
	return &t.shards[inoHash(ino)>>58]
}

// findOrAdd returns the inode with the identity of n, which is n itself if
// there was none. With anyGen the number alone counts.
func (t *identities) findOrAdd(n *Inode, anyGen bool) *Inode {
	s := t.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(n, anyGen); i >= 0 {
		return s.table[i]
	}
	s.insert(n)
	return n
}

// replace puts n in the place of the inode old if that is in the table, or
// adds it.
func (t *identities) replace(old, n *Inode) {
	s := t.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.position(old); i >= 0 {
		s.table[i] = n
		return
	}
	s.insert(n)
}

// byIno returns an inode with the number, or nil.
func (t *identities) byIno(ino uint64) *Inode {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	mask := uint64(len(s.table) - 1)
	if len(s.table) == 0 {
		return nil
	}
	for i := inoHash(ino) & mask; s.table[i] != nil; i = (i + 1) & mask {
		if s.table[i].ino == ino {
			return s.table[i]
		}
	}
	return nil
}

// remove takes n out if it is in the table.
func (t *identities) remove(n *Inode) {
	s := t.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.position(n)
	if i < 0 {
		return
	}
	mask := len(s.table) - 1
	s.table[i] = nil
	s.n--
	// close the gap: an entry may not be cut off from where it hashes to
	for j := (i + 1) & mask; s.table[j] != nil; j = (j + 1) & mask {
		home := int(inoHash(s.table[j].ino)) & mask
		if (j-home)&mask >= (j-i)&mask {
			s.table[i], s.table[j] = s.table[j], nil
			i = j
		}
	}
	if len(s.table) > 16 && s.n < len(s.table)/5 {
		s.resize(len(s.table) / 2)
	}
}

// count returns the number of inodes.
func (t *identities) count() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

func (s *identityShard) find(n *Inode, anyGen bool) int {
	if len(s.table) == 0 {
		return -1
	}
	mask := uint64(len(s.table) - 1)
	for i := inoHash(n.ino) & mask; s.table[i] != nil; i = (i + 1) & mask {
		o := s.table[i]
		if o.ino == n.ino && (anyGen || o.gen == n.gen && o.mode == n.mode) {
			return int(i)
		}
	}
	return -1
}

func (s *identityShard) position(n *Inode) int {
	if len(s.table) == 0 {
		return -1
	}
	mask := uint64(len(s.table) - 1)
	for i := inoHash(n.ino) & mask; s.table[i] != nil; i = (i + 1) & mask {
		if s.table[i] == n {
			return int(i)
		}
	}
	return -1
}

func (s *identityShard) insert(n *Inode) {
	if s.n >= len(s.table)*4/5 {
		s.resize(max(8, 2*len(s.table)))
	}
	s.place(n)
	s.n++
}

func (s *identityShard) place(n *Inode) {
	mask := uint64(len(s.table) - 1)
	i := inoHash(n.ino) & mask
	for s.table[i] != nil {
		i = (i + 1) & mask
	}
	s.table[i] = n
}

func (s *identityShard) resize(size int) {
	old := s.table
	s.table = make([]*Inode, size)
	for _, n := range old {
		if n != nil {
			s.place(n)
		}
	}
}
