package check

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/codec"
)

// chunks verifies chunks beside the walk. mu is a leaf.
type chunks struct {
	ctx     context.Context
	c       *checker
	seen    map[chunkKey]bool // of the goroutine of Run
	queues  []chan job
	workers sync.WaitGroup
	mu      sync.Mutex // the fields below and what is said of chunks in the report
	missing map[string]bool
}

type chunkKey struct {
	blob  int
	index uint32
}

type job struct {
	path  string
	chunk storage.Chunk
}

func newChunks(ctx context.Context, c *checker) *chunks {
	k := &chunks{ctx: ctx, c: c, seen: map[chunkKey]bool{}, missing: map[string]bool{}}
	if c.o.Backend == nil {
		return k
	}
	for _, b := range c.tree.Blobs() {
		if _, err := c.o.Backend.Size(ctx, b.ID); errors.Is(err, fs.ErrNotExist) {
			k.missing[b.ID] = true
		} else if err != nil {
			k.report(Problem{What: "blob " + b.ID + ": " + err.Error()})
			k.missing[b.ID] = true
		}
	}
	for range max(c.o.Workers, 1) {
		q := make(chan job, 16)
		k.queues = append(k.queues, q)
		k.workers.Go(func() { k.work(q) })
	}
	return k
}

// add takes note of a chunk of a file, and has it verified if it is new.
func (k *chunks) add(path string, ch *storage.Chunk) {
	key := chunkKey{ch.Blob.Index, ch.Index}
	if k.seen[key] {
		return
	}
	k.seen[key] = true
	k.c.r.Chunks++
	if len(k.queues) == 0 || k.missing[ch.Blob.ID] {
		return
	}
	// Chunks of one group go to one worker, which decodes the group once.
	n := ch.Index / 8
	if ch.Group != nil {
		n = ch.Group.Index
	}
	select {
	case k.queues[int(n)%len(k.queues)] <- job{path, *ch}:
	case <-k.ctx.Done():
	}
}

// wait returns when all chunks have been verified.
func (k *chunks) wait() {
	for _, q := range k.queues {
		close(q)
	}
	k.workers.Wait()
	k.c.r.Missing = slices.Sorted(maps.Keys(k.missing))
	slices.SortFunc(k.c.r.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.What, b.What))
	})
}

// report notes a problem. It returns true when there are enough.
func (k *chunks) report(p Problem) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.c.r.Problems) < k.c.o.MaxProblems {
		k.c.r.Problems = append(k.c.r.Problems, p)
	}
	return len(k.c.r.Problems) >= k.c.o.MaxProblems
}

func (k *chunks) progress(entries uint64) Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Progress{Entries: entries, Chunks: k.c.r.Verified + k.c.r.NoDigest, ChunkBytes: k.c.r.VerifiedLen}
}

func (k *chunks) work(q chan job) {
	r := direct.NewReader(k.c.o.Backend)
	for j := range q {
		if k.ctx.Err() != nil {
			continue
		}
		_, err := r.Chunk(k.ctx, &j.chunk)
		switch {
		case err != nil && errors.Is(err, codec.ErrMismatch):
			k.report(Problem{j.path, "content is wrong: " + err.Error()})
		case err != nil:
			k.report(Problem{j.path, err.Error()})
		default:
			k.done(&j.chunk)
		}
	}
}

func (k *chunks) done(ch *storage.Chunk) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ch.Flags&(storage.HasDigest|storage.HasCRC32C) == 0 {
		k.c.r.NoDigest++
		return
	}
	k.c.r.Verified++
	k.c.r.VerifiedLen += uint64(ch.UncompressedSize)
}
