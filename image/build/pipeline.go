package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sluicefs/sluice/storage"
)

// slotSize is the smallest buffer of a slot: reads of this size keep a disk
// busy, and many small files fit.
const slotSize = 1 << 20

// slotSize is the size of the slots: each has room for a chunk and a batch.
func (o *Options) slotSize() int { return max(int(o.ChunkSize), int(o.BatchSize), slotSize) }

// slot is a buffer on its way through the pipeline.
type slot struct {
	in     []byte // the bytes of all pieces
	used   int
	fills  []fill
	pieces []piece
	units  []unit // batches
	out    []byte // compressed forms
	done   chan error
	// barrier, if set, is closed by the writer when it comes to this slot,
	// which has no pieces then.
	barrier chan struct{}
}

// filler reads file data for a slot. It is called from a worker.
type filler interface {
	// fill reads len(p) bytes of the file from off on.
	fill(p []byte, off int64) error
}

// fill is a part of a slot that the worker has to read.
type fill struct {
	from   filler
	off    int64
	at, to int // in slot.in
}

// piece is a chunk of a file in a slot.
type piece struct {
	node   *inode
	ref    *uint32 // where the file keeps the position of the chunk
	off    int64   // in the file
	at, to int     // in slot.in
	digest [32]byte
	comp   []byte // compressed form in slot.out; nil: stored as it is
	known  bool   // the digest was stored already when the worker looked
}

// builder makes one image. The methods are for the source's goroutine;
// chunks, blobs and the blob writer belong to the writer's goroutine until
// stop or drain has returned.
type builder struct {
	opt   *Options
	out   *outputSet
	tree  *tree
	store *store

	ctx    context.Context
	cancel context.CancelCauseFunc
	free   chan *slot
	work   chan *slot
	order  chan *slot
	wg     sync.WaitGroup
	cur    *slot // being filled by the source
	closed bool

	layers []*blobWriter // one for each layer that has data
	writer *blobWriter   // of the layer under way; nil until it has a chunk
	window []byte        // of cut
	cuts   []cutFile     // files of the layer whose chunks have been cut by content
	layer  int32
	tars   []Blob // of a tarfs image
	targz  *targz // of an image that refers to a tar.gz
	lead   uint64 // bytes of the first blob that the prefetch paths fill
	stats  struct {
		chunks, dedup uint64
		dedupSize     int64
	}
}

func newBuilder(ctx context.Context, opt *Options, out *outputSet) (*builder, error) {
	b := &builder{opt: opt, out: out, tree: newTree(opt.Warn), store: newStore()}
	if err := b.loadParents(); err != nil {
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	size := opt.slotSize()
	memory := opt.Memory
	if opt.Chunking == ContentChunks {
		memory -= windowChunks * int64(opt.ChunkSize)
	}
	slots := min(3*opt.Parallel+2, max(2, int(memory/int64(2*size+bound(size)))))
	b.free = make(chan *slot, slots)
	b.work = make(chan *slot, slots)
	b.order = make(chan *slot, slots)
	for range slots {
		b.free <- &slot{done: make(chan error, 1), in: nil}
	}
	coders := make([]*coder, opt.Parallel)
	for i := range coders {
		c, err := opt.newCoder(opt.Compressor)
		if err != nil {
			return nil, err
		}
		coders[i] = c
	}
	for _, c := range coders {
		b.wg.Go(func() { b.runWorker(c) })
	}
	b.wg.Go(b.runWriter)
	return b, nil
}

// stop ends the pipeline and waits for its goroutines. It returns the error
// that ended it early, if one did.
func (b *builder) stop() error {
	if !b.closed {
		b.closed = true
		b.cancel(errStopped)
		close(b.work)
		close(b.order)
	}
	b.wg.Wait()
	return b.failure()
}

var errStopped = errors.New("the build has ended")

// failure returns why the pipeline failed, nil if it did not.
func (b *builder) failure() error {
	if err := context.Cause(b.ctx); err != nil && !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// slotFor returns the slot under way if it has room for n bytes, else the
// next free one.
func (b *builder) slotFor(n int) (*slot, error) {
	if b.cur != nil && b.cur.used+n > len(b.cur.in) {
		if err := b.flush(); err != nil {
			return nil, err
		}
	}
	if b.cur == nil {
		select {
		case b.cur = <-b.free:
		case <-b.ctx.Done():
			return nil, context.Cause(b.ctx)
		}
		if b.cur.in == nil {
			size := b.opt.slotSize()
			b.cur.in = make([]byte, size)
			if b.opt.Compressor != storage.None {
				b.cur.out = make([]byte, 0, size+bound(size))
			}
		}
	}
	return b.cur, nil
}

// flush hands the slot under way to the workers.
func (b *builder) flush() error {
	s := b.cur
	if s == nil {
		return nil
	}
	b.cur = nil
	// Both have room for every slot: no send blocks.
	b.order <- s
	b.work <- s
	return nil
}

// drain waits until everything that was handed over is written.
func (b *builder) drain() error {
	if err := b.flush(); err != nil {
		return err
	}
	s, err := b.slotFor(0)
	if err != nil {
		return err
	}
	barrier := make(chan struct{})
	s.barrier = barrier
	if err := b.flush(); err != nil {
		return err
	}
	select {
	case <-barrier:
		return b.failure()
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// chunkCount is the number of chunks that size bytes have.
func (b *builder) chunkCount(size int64) int64 {
	c := int64(b.opt.ChunkSize)
	return (size + c - 1) / c
}

// makeChunks makes room for the chunks of n. A size that asks for more than a
// blob can have (sparse files claim any) is refused before memory is.
func (b *builder) makeChunks(n *inode, path string) error {
	if err := b.fits(n, path); err != nil {
		return err
	}
	n.makeChunks(b.chunkCount(n.size))
	return nil
}

// fits refuses a file with more bytes than the chunks of a blob can have.
func (b *builder) fits(n *inode, path string) error {
	if n.size > int64(b.opt.ChunkSize)<<24 {
		return &Error{Op: "read", Path: path, Err: fmt.Errorf("%d bytes are too many for chunks of %d bytes", n.size, b.opt.ChunkSize)}
	}
	return nil
}

// stream takes the bytes of the regular file n, whose size is set, from r.
func (b *builder) stream(n *inode, r io.Reader, path string) error {
	if b.opt.Chunking == ContentChunks {
		return b.cut(n, r, path)
	}
	if err := b.makeChunks(n, path); err != nil {
		return err
	}
	left := n.size
	chunks := n.chunks()
	for i := range chunks {
		size := int(min(left, int64(b.opt.ChunkSize)))
		s, err := b.slotFor(size)
		if err != nil {
			return err
		}
		p := s.in[s.used : s.used+size]
		if err := readFull(r, p, path); err != nil {
			return err
		}
		s.add(n, &chunks[i], n.size-left, size)
		left -= int64(size)
	}
	return nil
}

// readFull fills p from r, which is the file at path.
func readFull(r io.Reader, p []byte, path string) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if e := (*Error)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: "read", Path: path, Err: err}
}

// add makes the next size bytes of the slot a chunk of n: that at off, whose
// position goes to ref.
func (s *slot) add(n *inode, ref *uint32, off int64, size int) {
	s.pieces = append(s.pieces, piece{node: n, ref: ref, off: off, at: s.used, to: s.used + size})
	s.used += size
}

// span is a range of a file that has data.
type span struct{ start, end int64 }

// file has the workers read the bytes of the regular file n, whose size is
// set, from f. Chunks that lie wholly between the spans of data are not read.
func (b *builder) file(n *inode, f filler, data []span, path string) error {
	if b.opt.Chunking == ContentChunks {
		return b.cut(n, &fillReader{f, 0, n.size}, path)
	}
	if err := b.makeChunks(n, path); err != nil {
		return err
	}
	c := int64(b.opt.ChunkSize)
	chunks := n.chunks()
	for i := 0; i < len(chunks); {
		start := int64(i) * c
		for len(data) > 0 && data[0].end <= start {
			data = data[1:]
		}
		end := min(start+c, n.size)
		if len(data) == 0 || data[0].start >= end {
			if err := b.hole(n, i, int(end-start)); err != nil {
				return err
			}
			i++
			continue
		}
		// As many chunks with data as follow and fit are read at once.
		s, err := b.slotFor(int(end - start))
		if err != nil {
			return err
		}
		at, from := s.used, start
		for {
			s.add(n, &chunks[i], start, int(end-start))
			i++
			start, end = end, min(end+c, n.size)
			if i == len(chunks) || end > data[0].end || s.used+int(end-start) > len(s.in) {
				break
			}
		}
		s.fills = append(s.fills, fill{from: f, off: from, at: at, to: s.used})
	}
	return nil
}

// hole gives chunk i of n, which is size zeros, its place.
func (b *builder) hole(n *inode, i, size int) error {
	if b.opt.NullHoles {
		n.chunks()[i] = holeChunk
		return nil
	}
	s, err := b.slotFor(size)
	if err != nil {
		return err
	}
	clear(s.in[s.used : s.used+size])
	s.add(n, &n.chunks()[i], int64(i)*int64(b.opt.ChunkSize), size)
	return nil
}

func (b *builder) runWorker(c *coder) {
	for s := range b.work {
		s.done <- b.process(s, c)
	}
}

// process reads, hashes and compresses the pieces of s.
func (b *builder) process(s *slot, c *coder) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	for _, f := range s.fills {
		if err := f.from.fill(s.in[f.at:f.to], f.off); err != nil {
			return err
		}
	}
	for i := range s.pieces {
		p := &s.pieces[i]
		plain := s.in[p.at:p.to]
		p.digest = c.digest(plain)
		p.known = b.store.has(&p.digest)
		if p.known || b.batched(p) || b.opt.Compressor == storage.None {
			continue
		}
		if cap(s.out)-len(s.out) < bound(len(plain)) {
			// Earlier pieces keep the old array.
			s.out = make([]byte, 0, len(s.in)+bound(len(s.in)))
		}
		if out, ok := c.compress(s.out, plain); ok {
			p.comp = out[len(s.out):]
			s.out = out
		}
	}
	if b.opt.BatchSize != 0 && b.opt.Compressor != storage.None {
		b.compressBatches(s, c)
	}
	return nil
}

// batched reports whether p is stored together with other small chunks.
func (b *builder) batched(p *piece) bool {
	return b.opt.BatchSize != 0 && len(p.node.chunks()) == 1 && p.to-p.at < int(b.opt.BatchSize/2)
}

func (b *builder) runWriter() {
	for s := range b.order {
		err := <-s.done
		if err == nil && b.ctx.Err() == nil {
			err = b.write(s)
		}
		if err != nil {
			b.cancel(err)
		}
		if s.barrier != nil {
			close(s.barrier)
		}
		s.used, s.barrier = 0, nil
		clear(s.pieces)
		clear(s.fills)
		clear(s.units)
		s.pieces, s.fills, s.units, s.out = s.pieces[:0], s.fills[:0], s.units[:0], s.out[:0]
		b.free <- s
	}
}

// write stores the pieces of s that are new and tells the inodes where all
// are.
func (b *builder) write(s *slot) error {
	for i := range s.pieces {
		p := &s.pieces[i]
		size := p.to - p.at
		b.stats.chunks++
		at, ok := b.store.find(&p.digest)
		if ok {
			b.stats.dedup++
			b.stats.dedupSize += int64(size)
		} else {
			var err error
			if at, err = b.put(s, i); err != nil {
				return err
			}
		}
		*p.ref = at
		b.opt.Progress(int64(size))
	}
	if b.writer == nil {
		return nil
	}
	return b.writer.named(b.writer.endBatch(s.units))
}

// put appends piece i of s to the blob of the layer.
func (b *builder) put(s *slot, i int) (uint32, error) {
	p := &s.pieces[i]
	plain := s.in[p.at:p.to]
	if p.known {
		panic("build: a chunk that was stored is gone")
	}
	if b.writer == nil {
		w, err := newBlobWriter(b)
		if err != nil {
			return 0, err
		}
		b.writer = w
		b.layers = append(b.layers, w)
	}
	w, batched := b.writer, b.batched(p)
	if b.opt.ends(len(w.batch), len(plain), batched) {
		if err := w.named(w.endBatch(s.units)); err != nil {
			return 0, err
		}
	}
	c := chunk{digest: p.digest, uncompSize: uint32(len(plain)), fileOff: uint64(p.off), blob: w.blob.at}
	if err := w.named(w.append(&c, plain, p.comp, batched)); err != nil {
		return 0, err
	}
	if batched {
		w.addToBatch(i, plain)
	}
	return b.store.add(&c, true), nil
}

// named says which file the error is about.
func (w *blobWriter) named(err error) error {
	if e := (*Error)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%s: %w", w.file.name, err)
}
