package serve

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/program"
	"github.com/sluicefs/sluice/storage"
)

// lazyReader is the part of a store that programs need.
type lazyReader interface {
	storage.Reader
	fetcher
}

// programs fetches what programs need as soon as the beginning of one has
// been read: the loader finds it there instead of waiting for each library in
// turn. It is safe for concurrent use.
type programs struct {
	tree image.Tree
	from lazyReader
	log  *slog.Logger
	ctx  context.Context // ends at Close
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	seen   map[uint64]bool
	wg     sync.WaitGroup
}

// Bounds of what is fetched for a program.
const (
	maxPrograms = 4096     // that are looked at in the life of a mount
	maxLevels   = 4        // libraries of libraries
	programHead = 8 << 20  // bytes of the program itself
	libraryHead = 4 << 20  // bytes of a library
	programAll  = 32 << 20 // bytes in all
)

func newPrograms(tree image.Tree, from lazyReader, log *slog.Logger) *programs {
	p := &programs{tree: tree, from: from, log: log, seen: map[uint64]bool{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Close ends what is under way.
func (p *programs) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
	return nil
}

// Waited is that of imagefs.WaitObserver.
func (r *recorder) Waited(nid uint64, off int64, data []byte) {
	if r.programs != nil && off == 0 && program.Is(data) {
		r.programs.began(nid)
	}
}

// began notes that the program nid is being read.
func (p *programs) began(nid uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.seen[nid] || len(p.seen) >= maxPrograms {
		return
	}
	p.seen[nid] = true
	p.wg.Go(func() {
		if err := p.fetch(nid); err != nil && p.ctx.Err() == nil {
			p.log.Debug("what a program needs is not known", "inode", nid, "error", err)
		}
	})
}

// accounts are the files that are read to start a command as a user.
var accounts = []string{"/etc/passwd", "/etc/group"}

// WillRun fetches ahead what a command needs that is about to be run, looked
// up in the image as a shell does with the PATH of env.
func (i *ImageFS) WillRun(args, env []string) {
	p := i.recorder.programs
	if p == nil || len(args) == 0 {
		return
	}
	var ext []storage.Extent
	left := int64(programAll)
	for _, path := range accounts {
		if nid, ok := program.Follow(p.tree, path); ok {
			ext = p.head(ext, nid, libraryHead, &left)
		}
	}
	p.mu.Lock()
	if !p.closed {
		p.wg.Go(func() { _ = p.from.PrefetchSoon(p.ctx, ext) }) // who reads them will see
	}
	p.mu.Unlock()
	if nid, ok := program.Find(p.tree, args[0], env); ok {
		p.began(nid)
	}
}

// know notes that nid is fetched, and reports whether it was not before.
func (p *programs) know(nid uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[nid] || len(p.seen) >= maxPrograms {
		return false
	}
	p.seen[nid] = true
	return true
}

// fetch fetches what the program nid needs, level by level: what it names,
// then what that names, and with the first the rest of the program itself.
func (p *programs) fetch(nid uint64) error {
	left := int64(programAll)
	level := []uint64{nid}
	for depth := 0; len(level) > 0 && depth < maxLevels; depth++ {
		var next []uint64
		for _, nid := range level {
			needs, err := program.Parse(&fileAt{p, nid})
			if err != nil && depth == 0 {
				return err
			}
			if err != nil {
				continue
			}
			for _, n := range needs.Files(p.tree) {
				if p.know(n) {
					next = append(next, n)
				}
			}
		}
		var ext []storage.Extent
		for _, n := range next {
			ext = p.head(ext, n, libraryHead, &left)
		}
		if depth == 0 {
			ext = p.head(ext, nid, programHead, &left)
		}
		if err := p.from.PrefetchSoon(p.ctx, ext); err != nil {
			return err
		}
		level = next
	}
	return nil
}

// head appends the extents of the beginning of a file, as far as left goes.
func (p *programs) head(ext []storage.Extent, nid uint64, n int64, left *int64) []storage.Extent {
	var in image.Inode
	if p.tree.Stat(nid, &in) != nil {
		return ext
	}
	n = min(n, int64(in.Size), *left)
	if _, inline, err := p.tree.Inline(nil, nid, 0); err != nil || inline || n <= 0 {
		return ext
	}
	*left -= n
	more, err := p.tree.Extents(ext, nid, 0, n)
	if err != nil {
		return ext
	}
	return more
}

// fileAt is a file of the image as an io.ReaderAt.
type fileAt struct {
	p   *programs
	nid uint64
}

func (f *fileAt) ReadAt(b []byte, off int64) (int, error) {
	if n, inline, err := f.p.tree.Inline(b, f.nid, off); err != nil || inline {
		return short(n, len(b), err)
	}
	ext, err := f.p.tree.Extents(nil, f.nid, off, int64(len(b)))
	if err != nil || len(ext) == 0 {
		return short(0, len(b), err)
	}
	last := &ext[len(ext)-1]
	n := int(min(last.FileOffset+last.Length-off, int64(len(b))))
	if err := f.p.from.ReadExtents(f.p.ctx, b[:n], ext); err != nil {
		return 0, err
	}
	return short(n, len(b), nil)
}

// short returns what an io.ReaderAt returns that has read n of want bytes.
func short(n, want int, err error) (int, error) {
	if err == nil && n < want {
		err = io.EOF
	}
	return n, err
}

var _ io.ReaderAt = (*fileAt)(nil)
