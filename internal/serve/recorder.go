package serve

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/profile"
)

// recorder is an imagefs.Observer that keeps the slowest reads, and with a
// profile wanted all of them. It is safe for concurrent use.
type recorder struct {
	programs *programs // told of the files whose beginning was waited for; may be nil

	mu    sync.Mutex
	slow  []slowRead // at most maxSlow, the quickest first
	all   bool       // record reads
	reads []fileRange
	first map[fileRange]time.Time
}

type slowRead struct {
	nid      uint64
	off      int64
	n        int
	duration time.Duration
	at       time.Time
}

type fileRange struct {
	nid    uint64
	off, n int64
}

const (
	maxSlow = 16
	// slowAfter is what a read may take without being called slow: more
	// than a page from the local disk takes.
	slowAfter = 5 * time.Millisecond
	// maxRecorded bounds a recording, at about 100 bytes each.
	maxRecorded = 1 << 20
)

// Read is that of imagefs.Observer.
func (r *recorder) Read(nid uint64, off int64, n int, d time.Duration, _ error) {
	if off == 0 && r.programs != nil {
		r.programs.read(nid)
	}
	if d < slowAfter && !r.all {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if d >= slowAfter {
		r.addSlow(slowRead{nid, off, n, d, time.Now()})
	}
	if r.all && n > 0 && len(r.reads) < maxRecorded {
		k := fileRange{nid, off, int64(n)}
		if _, dup := r.first[k]; !dup {
			r.first[k] = time.Now()
			r.reads = append(r.reads, k)
		}
	}
}

// addSlow keeps s if it is among the slowest.
func (r *recorder) addSlow(s slowRead) {
	i := sort.Search(len(r.slow), func(i int) bool { return r.slow[i].duration >= s.duration })
	r.slow = append(r.slow, slowRead{})
	copy(r.slow[i+1:], r.slow[i:])
	r.slow[i] = s
	if len(r.slow) > maxSlow {
		r.slow = append(r.slow[:0], r.slow[1:]...)
	}
}

// slowest returns the slowest reads, the slowest first.
func (r *recorder) slowest(names func(nid uint64) string) []Slow {
	r.mu.Lock()
	slow := append([]slowRead(nil), r.slow...)
	r.mu.Unlock()
	var out []Slow
	for i := len(slow) - 1; i >= 0; i-- {
		s := slow[i]
		out = append(out, Slow{Path: names(s.nid), Offset: s.off, Length: int64(s.n), Duration: s.duration, At: s.at})
	}
	return out
}

// spans returns what was read of a file, in order of time.
func (r *recorder) spans(nid uint64) []ReadSpan {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []ReadSpan
	for _, k := range r.reads {
		if k.nid == nid {
			out = append(out, ReadSpan{Offset: k.off, Length: k.n, At: r.first[k]})
		}
	}
	return out
}

// profile returns what was read, neighbouring ranges of a file that followed
// each other joined.
func (r *recorder) profile(tree image.Tree) (*profile.Profile, error) {
	r.mu.Lock()
	reads := append([]fileRange(nil), r.reads...)
	r.mu.Unlock()
	names, err := paths(tree, reads)
	if err != nil {
		return nil, err
	}
	p := &profile.Profile{Version: profile.Version}
	for _, k := range reads {
		path, ok := names[k.nid]
		if !ok {
			continue
		}
		if n := len(p.Reads); n > 0 {
			last := &p.Reads[n-1]
			if last.Path == path && last.Offset <= k.off && k.off <= last.Offset+last.Length {
				last.Length = max(last.Length, k.off+k.n-last.Offset)
				continue
			}
		}
		p.Reads = append(p.Reads, profile.Read{Path: path, Offset: k.off, Length: k.n})
	}
	return p, nil
}

// paths names the inodes of reads by one walk of the image.
func paths(tree image.Tree, reads []fileRange) (map[uint64]string, error) {
	names := map[uint64]string{}
	for _, k := range reads {
		names[k.nid] = ""
	}
	left := len(names)
	err := image.Walk(tree, func(path string, nid uint64, _ uint8) bool {
		if old, want := names[nid]; want && old == "" {
			names[nid] = path
			left--
		}
		return left > 0
	})
	for nid, name := range names {
		if name == "" {
			delete(names, nid)
		}
	}
	return names, err
}

// nidName is what an inode is called whose path is not known.
func nidName(nid uint64) string { return fmt.Sprintf("inode %d", nid) }
