package serve

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/program"
	"github.com/sluicefs/sluice/storage"
)

// lazyReader is the part of a store that programs need.
type lazyReader interface {
	storage.Reader
	fetcher
}

// programs fetches what programs need as soon as one is run: the loader finds
// it there instead of waiting for each library in turn. That programs are run
// here, not just read, shows when their loader is read too. It is safe for
// concurrent use.
type programs struct {
	tree   image.Tree
	from   lazyReader
	log    *slog.Logger
	loader []uint64        // files of the loader, itself first; of programs without there are none
	ctx    context.Context // ends at Close
	stop   context.CancelFunc

	run atomic.Bool // the loader has been read, or there is none

	mu     sync.Mutex
	closed bool
	seen   map[uint64]bool
	idle   uint64 // the program that began last, if the loader is to be read yet
	wrong  int    // files in a row that may be run and seem not to be, since one was
	wg     sync.WaitGroup
}

// Bounds of what is fetched for a program.
const (
	maxPrograms = 4096     // that are looked at in the life of a mount
	maxWrong    = 4        // files after which what may be run is not taken for a program that is run
	maxLevels   = 4        // libraries of libraries
	programHead = 8 << 20  // bytes of the program itself
	programEnd  = 1 << 20  // bytes of its end, fetched before anything is known of it
	libraryHead = 4 << 20  // bytes of a library
	programAll  = 32 << 20 // bytes in all
)

func newPrograms(tree image.Tree, from lazyReader, log *slog.Logger) *programs {
	p := &programs{tree: tree, from: from, log: log, loader: program.Loader(tree), seen: map[uint64]bool{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.run.Store(len(p.loader) == 0)
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

// Waits is that of imagefs.WaitObserver: a file that may be run is likely
// about to be.
func (r *recorder) Waits(nid uint64, off int64) {
	if r.programs != nil && off == 0 && r.programs.runnable(nid) {
		r.programs.began(nid)
	}
}

// runnable reports whether somebody may run the file nid.
func (p *programs) runnable(nid uint64) bool {
	const execute = 0o111
	var in image.Inode
	return p.tree.Stat(nid, &in) == nil && in.Mode&image.TypeMask == image.TypeRegular && in.Mode&execute != 0
}

// Waited is that of imagefs.WaitObserver.
func (r *recorder) Waited(nid uint64, off int64, data []byte) {
	if r.programs != nil && off == 0 && program.Is(data) {
		r.programs.began(nid)
	}
}

// began notes that the beginning of the program nid is read.
func (p *programs) began(nid uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.seen[nid] || len(p.seen) >= maxPrograms {
		return
	}
	p.seen[nid] = true
	p.wg.Go(func() { p.note(nid, p.look(nid)) })
}

func (p *programs) note(nid uint64, err error) {
	if err != nil && p.ctx.Err() == nil {
		p.log.Debug("what a program needs is not known", "inode", nid, "error", err)
	}
}

// look finds out what the program nid needs, and fetches it if programs are
// run here; else when it shows that this one is. What a script needs is seen
// when its interpreter begins.
func (p *programs) look(nid uint64) error {
	if early := p.early(nid); len(early) > 0 {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { _ = p.from.PrefetchSoon(p.ctx, early) }) // who reads it will see
	}
	needs, err := program.Parse(&fileAt{p, nid})
	if err == nil && needs.Script {
		return nil
	}
	p.mu.Lock()
	dynamic := err == nil && needs.Interpreter != ""
	runs := err == nil && p.run.Load()
	switch {
	case dynamic && runs:
		p.wrong = 0
	case dynamic:
		p.idle = nid
		fallthrough
	default:
		p.wrong++
	}
	p.mu.Unlock()
	if runs {
		return p.fetch(nid)
	}
	return err
}

// read notes that the beginning of the file nid is read, from wherever.
func (p *programs) read(nid uint64) {
	if len(p.loader) == 0 || nid != p.loader[0] || p.run.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Store(true)
	p.wrong = 0
	if idle := p.idle; idle != 0 && !p.closed {
		p.wg.Go(func() { p.note(idle, p.fetch(idle)) })
	}
}

// runs notes that the program nid is about to be run.
func (p *programs) runs(nid uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.seen[nid] {
		return
	}
	p.seen[nid] = true
	p.run.Store(true)
	p.wg.Go(func() { _ = p.from.PrefetchSoon(p.ctx, p.early(nid)) })
	p.wg.Go(func() { p.note(nid, p.fetch(nid)) })
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
		p.runs(nid)
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

// early returns what a program will need whatever it is, to be fetched while
// its beginning comes: the loader, its own end, where the dynamic section is,
// and what follows the first chunk.
func (p *programs) early(nid uint64) (ext []storage.Extent) {
	p.mu.Lock()
	ok := p.wrong < maxWrong
	p.mu.Unlock()
	if !ok || !p.runnable(nid) {
		return nil // what is not run is a library: its loader has been running for a while
	}
	left := int64(programAll)
	for _, n := range p.loader {
		if n == nid {
			return nil
		}
		if p.know(n) {
			ext = p.head(ext, n, libraryHead, &left)
		}
	}
	var in image.Inode
	if p.tree.Stat(nid, &in) != nil {
		return ext
	}
	if _, inline, err := p.tree.Inline(nil, nid, 0); err != nil || inline {
		return ext
	}
	size := int64(min(in.Size, 1<<40))
	for _, part := range [...][2]int64{{max(0, size-programEnd), programEnd}, {int64(p.tree.Info().ChunkSize), 1}} {
		if part[0] >= size {
			continue
		}
		if more, err := p.tree.Extents(ext, nid, part[0], min(part[1], size-part[0])); err == nil {
			ext = more
		}
	}
	return ext
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
