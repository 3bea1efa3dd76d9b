package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/profile"
	"github.com/sluicefs/sluice/storage"
)

// fetcher is the part of a store that fetches ahead.
type fetcher interface {
	Prefetch(ctx context.Context, ext []storage.Extent) error
	PrefetchSoon(ctx context.Context, ext []storage.Extent) error
}

// prefetcher fetches ahead of the reads of one mount: by a profile, else the
// chunks and files that the image itself lists, or all.
type prefetcher struct {
	tree  image.Tree
	to    fetcher
	mode  string
	prof  *profile.Profile
	log   *slog.Logger
	stop  context.CancelFunc
	done  chan struct{}
	files map[uint64]bool  // that it is to fetch; set before done is made
	ahead []storage.Extent // that the image's index lists; may not be changed

	pending []storage.Extent // of the running goroutine

	mu   sync.Mutex
	text string // state in words
}

func newPrefetcher(tree image.Tree, to fetcher, mode string, prof *profile.Profile, ahead []storage.Extent, log *slog.Logger) *prefetcher {
	p := &prefetcher{tree: tree, to: to, mode: mode, prof: prof, log: log, text: "off", files: map[uint64]bool{}}
	if prof != nil {
		for _, r := range prof.Reads {
			if nid, err := image.Find(tree, r.Path); err == nil {
				p.files[nid] = true
			}
		}
	}
	for _, nid := range tree.Prefetch() {
		if mode != "none" {
			p.files[nid] = true
		}
	}
	if mode != "none" {
		p.ahead = ahead
	}
	return p
}

// wants reports whether the file is fetched ahead.
func (p *prefetcher) wants(nid uint64) bool {
	return p.mode == "all" || p.files[nid] || p.files[p.tree.Root()]
}

// names reports whether the image's index lists the chunk.
func (p *prefetcher) names(c *storage.Chunk) bool {
	return slices.ContainsFunc(p.ahead, func(e storage.Extent) bool {
		return e.Chunk.Blob == c.Blob && e.Chunk.Index == c.Index
	})
}

func (p *prefetcher) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

func (p *prefetcher) set(text string) {
	p.mu.Lock()
	p.text = text
	p.mu.Unlock()
}

func (p *prefetcher) start() {
	if p.mode == "none" && p.prof == nil || p.mode != "all" && len(p.files) == 0 && len(p.ahead) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.done = cancel, make(chan struct{})
	p.set("running")
	go func() {
		defer close(p.done)
		switch err := p.run(ctx); {
		case ctx.Err() != nil:
			p.set("stopped")
		case err != nil:
			p.set("failed: " + err.Error())
			p.log.Warn("fetching ahead ended", "error", err)
		default:
			p.set("done")
		}
	}()
}

// Close ends the fetching.
func (p *prefetcher) Close() error {
	if p.stop != nil {
		p.stop()
		<-p.done
	}
	return nil
}

func (p *prefetcher) run(ctx context.Context) error {
	if p.prof != nil {
		if err := p.byProfile(ctx); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(p.ahead, batch) {
		if err := p.to.Prefetch(ctx, some); err != nil {
			return err
		}
	}
	var roots []uint64
	switch p.mode {
	case "none":
	case "all":
		roots = []uint64{p.tree.Root()}
	default:
		roots = p.tree.Prefetch()
	}
	for _, nid := range roots {
		if err := p.below(ctx, nid); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

// batch is how many extents are handed over at once: enough for ranges to be
// merged across files, few enough that the first are under way early.
const batch = 512

// byProfile fetches the ranges of the profile in their order.
func (p *prefetcher) byProfile(ctx context.Context) error {
	var all []storage.Extent
	var failed error
	flush := func() bool {
		failed = p.to.PrefetchSoon(ctx, all)
		all = all[:0]
		return failed == nil
	}
	missing, err := p.prof.Resolve(p.tree, func(_ profile.Read, ext []storage.Extent) bool {
		for _, e := range ext {
			if !e.Hole() {
				all = append(all, e)
			}
		}
		return len(all) < batch || flush()
	})
	if failed == nil && len(all) > 0 {
		flush()
	}
	if missing > 0 {
		p.log.Info("profile names files that the image lacks", "files", missing)
	}
	return errors.Join(err, failed)
}

// below fetches the files at and below the inode nid.
func (p *prefetcher) below(ctx context.Context, nid uint64) error {
	var in image.Inode
	if err := p.tree.Stat(nid, &in); err != nil {
		return fmt.Errorf("fetch ahead: %w", err)
	}
	switch in.Mode & image.TypeMask {
	case image.TypeRegular:
		return p.file(ctx, nid, int64(in.Size))
	case image.TypeDirectory:
	default:
		return nil
	}
	var failed error
	err := image.WalkBelow(p.tree, nid, func(_ string, nid uint64, typ uint8) bool {
		if typ == image.TypeRegular>>12 {
			var in image.Inode
			if failed = p.tree.Stat(nid, &in); failed == nil {
				failed = p.file(ctx, nid, int64(in.Size))
			}
		}
		return failed == nil && ctx.Err() == nil
	})
	return errors.Join(err, failed, ctx.Err())
}

// fileStep is how much of a file is looked up in one go.
const fileStep = 16 << 20

// file adds the extents of a file to those to be fetched. They are handed
// over in batches: small files that lie together come in one range.
func (p *prefetcher) file(ctx context.Context, nid uint64, size int64) error {
	if _, inline, err := p.tree.Inline(nil, nid, 0); err != nil || inline {
		return err
	}
	for off := int64(0); off < size; off += fileStep {
		var err error
		if p.pending, err = p.tree.Extents(p.pending, nid, off, fileStep); err != nil {
			return err
		}
		if len(p.pending) >= batch {
			if err := p.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands over what is pending.
func (p *prefetcher) flush(ctx context.Context) error {
	ext := p.pending
	p.pending = p.pending[:0]
	if len(ext) == 0 {
		return nil
	}
	return p.to.Prefetch(ctx, ext)
}
