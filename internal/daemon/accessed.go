package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/vfs"
)

// accessed is a file system that remembers which of its files were read: what
// nydusd calls access pattern and files' statistics.
type accessed struct {
	fuse.RawFileSystem
	told accessConfig // what to tell of it

	mu     sync.Mutex
	files  map[uint64]*fileAccess
	latest map[uint64]bool // read since the last time that was asked
}

// maxAccessed bounds how many files are remembered.
const maxAccessed = 1 << 20

type fileAccess struct {
	first time.Time
	reads uint64
	bytes uint64
	fails uint64
	sizes [8]uint64
}

func recordAccess(fs fuse.RawFileSystem, told accessConfig) *accessed {
	return &accessed{RawFileSystem: fs, told: told, files: map[uint64]*fileAccess{}, latest: map[uint64]bool{}}
}

// tells is what was asked for; a may be nil.
func (a *accessed) tells() accessConfig {
	if a == nil {
		return accessConfig{}
	}
	return a.told
}

// Lacks passes on what the file system has not.
func (a *accessed) Lacks(op uint32) bool {
	l, ok := a.RawFileSystem.(fuse.RawLister)
	return ok && l.Lacks(op)
}

// ClearsSetID passes on whether a union need not.
func (a *accessed) ClearsSetID() bool {
	c, ok := a.RawFileSystem.(vfs.SetIDClearer)
	return ok && c.ClearsSetID()
}

// Read reads and remembers.
func (a *accessed) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	node := in.NodeId
	r, st := a.RawFileSystem.Read(cancel, in, buf)
	size := 0
	if r != nil {
		size = r.Size()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.files[node]
	if f == nil {
		if len(a.files) >= maxAccessed {
			return r, st
		}
		f = &fileAccess{first: time.Now()}
		a.files[node] = f
	}
	a.latest[node] = true
	f.reads++
	if st != fuse.OK && st != fuse.Pending {
		f.fails++
		return r, st
	}
	f.bytes += uint64(size)
	k := 0
	for k < len(vfs.ReadSizeBounds) && size >= vfs.ReadSizeBounds[k] {
		k++
	}
	f.sizes[k]++
	return r, st
}

// nydusAccess is an item of nydusd's access pattern.
type nydusAccess struct {
	Ino   uint64 `json:"ino"`
	Reads uint64 `json:"nr_read"`
	Secs  int64  `json:"first_access_time_secs"`
	Nanos int    `json:"first_access_time_nanos"`
}

// pattern lists the files that were read, in the order of their first reads.
func (a *accessed) pattern() []nydusAccess {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]nydusAccess, 0, len(a.files))
	for ino, f := range a.files {
		all = append(all, nydusAccess{ino, f.reads, f.first.Unix(), f.first.Nanosecond()})
	}
	slices.SortFunc(all, func(x, y nydusAccess) int {
		return cmp.Or(cmp.Compare(x.Secs, y.Secs), cmp.Compare(x.Nanos, y.Nanos), cmp.Compare(x.Ino, y.Ino))
	})
	return all
}

// nydusFile is what nydusd counts of a file.
type nydusFile struct {
	Fops   uint64     `json:"total_fops"`
	Read   uint64     `json:"data_read"`
	Secs   int64      `json:"first_access_time_secs"`
	Nanos  int        `json:"first_access_time_nanos"`
	Sizes  [8]uint64  `json:"block_count_read"`
	Hits   [15]uint64 `json:"fop_hits"`
	Errors [15]uint64 `json:"fop_errors"`
}

// counts are those of each file that was read, by inode number.
func (a *accessed) counts() map[uint64]nydusFile {
	a.mu.Lock()
	defer a.mu.Unlock()
	read := slices.IndexFunc(fops[:], func(ops []wire.Opcode) bool { return slices.Contains(ops, wire.OpRead) })
	all := make(map[uint64]nydusFile, len(a.files))
	for ino, f := range a.files {
		n := nydusFile{Fops: f.reads, Read: f.bytes, Secs: f.first.Unix(), Nanos: f.first.Nanosecond(), Sizes: f.sizes}
		n.Hits[read], n.Errors[read] = f.reads, f.fails
		all[ino] = n
	}
	return all
}

// recent lists the inodes that were read since the last call, as ranges of the
// first and the last.
func (a *accessed) recent() [][2]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	inos := make([]uint64, 0, len(a.latest))
	for ino := range a.latest {
		inos = append(inos, ino)
	}
	clear(a.latest)
	slices.Sort(inos)
	all := [][2]uint64{}
	for _, ino := range inos {
		if n := len(all); n > 0 && all[n-1][1]+1 == ino {
			all[n-1][1] = ino
			continue
		}
		all = append(all, [2]uint64{ino, ino})
	}
	return all
}
