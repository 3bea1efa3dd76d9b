package fs

import (
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/fuse"
)

// pruning keeps the number of inodes near Options.MaxInodes. A round walks on
// through the node ids from where the last one ended, spares what was looked
// up since it last came by, and asks the kernel to forget the rest.
type pruning struct {
	running atomic.Bool
	mu      sync.Mutex // guards ended and joining running
	ended   bool
	wait    sync.WaitGroup
	hand    int // chunk of the slab; used by the one round that runs
}

const pruneBatch = 512 // inodes asked for at once

// grown is told that an inode became known to the kernel. It may be called
// with locks held.
func (b *rawBridge) grown() {
	limit := int64(b.options.MaxInodes)
	if limit <= 0 || b.nodes.live.Load() <= limit || b.pruning.running.Load() {
		return
	}
	p := &b.pruning
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || !p.running.CompareAndSwap(false, true) {
		return
	}
	p.wait.Add(1)
	go func() {
		defer p.wait.Done()
		defer p.running.Store(false)
		b.pruneRound(limit)
	}()
}

func (p *pruning) stop() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.wait.Wait()
}

// pruneRound asks the kernel to forget an eighth more than what is too much.
// FORGET requests bring the answers, in their time.
func (b *rawBridge) pruneRound(limit int64) {
	want := int(b.nodes.live.Load() - limit + limit/8)
	var batch []*Inode
	for chunks := 0; want > 0 && chunks < 2*b.chunkCount(); chunks++ {
		b.pruning.hand = b.nodes.scan(b.pruning.hand, func(n *Inode) {
			if want > 0 && n.prunable() {
				batch = append(batch, n)
				want--
			}
		})
		if len(batch) >= pruneBatch || want == 0 {
			b.forgetAll(batch)
			batch = batch[:0]
		}
	}
	b.forgetAll(batch)
}

func (b *rawBridge) chunkCount() int {
	if t := b.nodes.table.Load(); t != nil {
		return len(*t)
	}
	return 0
}

// prunable reports whether the kernel may be asked to forget n, and takes
// note that it came by.
func (n *Inode) prunable() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flags&touched != 0 {
		n.flags &^= touched
		return false
	}
	return n.lookups > 0 && n.kids == 0 && n.files == nil && n.flags&persistent == 0 && !n.IsRoot()
}

func (b *rawBridge) forgetAll(batch []*Inode) {
	if len(batch) == 0 || b.root.NotifyPrune(batch) == 0 {
		return
	}
	// A kernel without PRUNE: drop the names. Directories stay, as a name
	// that is dropped takes with it what is mounted there.
	s := b.callbacks()
	if s == nil {
		return
	}
	for _, n := range batch {
		if n.IsDir() {
			continue
		}
		name, p := n.Parent()
		if p == nil {
			continue
		}
		if id := p.nodeID(); id != 0 && s.EntryNotify(id, name) == fuse.ENOSYS {
			return
		}
	}
}
