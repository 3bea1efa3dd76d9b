package imagefs

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/storage"
)

// Flush answers ENOSYS: nothing is ever written, and the kernel then does not
// ask at each close.
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Read gives out the bytes of a regular file: those that the metadata holds
// itself, or those of its extents. It may wait for the network, and ends
// with EINTR if the caller does.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	nid := f.ids.nid(in.NodeId)
	start := time.Time{}
	if f.opts.Observer != nil {
		start = time.Now()
	}
	if size := int(in.Size); size < len(buf) {
		buf = buf[:size]
	}
	n, err := f.read(requestContext{cancel}, &in.InHeader, nid, buf, in.Offset)
	if f.opts.Observer != nil {
		f.opts.Observer.Read(nid, int64(in.Offset), n, time.Since(start), err)
	}
	f.counts.reads.Add(1)
	if err != nil {
		return nil, f.status("read", nid, err)
	}
	f.counts.readBytes.Add(uint64(n))
	r := results.Get().(*result)
	r.data = buf[:n]
	return r, fuse.OK
}

// result is a pooled fuse.ReadResult.
type result struct{ data []byte }

var results = sync.Pool{New: func() any { return new(result) }}

func (r *result) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }
func (r *result) Size() int                          { return len(r.data) }

func (r *result) Done() {
	r.data = nil
	results.Put(r)
}

// read fills p with the bytes of nid from off on and returns how many there
// are; fewer than len(p) only at the end of the file.
func (f *FS) read(ctx context.Context, header *fuse.InHeader, nid uint64, p []byte, off uint64) (int, error) {
	if off > 1<<62 {
		return 0, nil // beyond the end of any file
	}
	n, inline, err := f.tree.Inline(p, nid, int64(off))
	if err != nil || inline {
		return n, err
	}
	sc := getScratch()
	defer putScratch(sc)
	ext, err := f.tree.Extents(sc.extents, nid, int64(off), int64(len(p)))
	if err != nil {
		return 0, err
	}
	sc.extents = ext
	if len(ext) == 0 {
		return 0, nil
	}
	last := &ext[len(ext)-1]
	if n = int(last.FileOffset + last.Length - int64(off)); n < len(p) {
		p = p[:n]
	}
	if f.present != nil {
		if done, err := f.present.ReadPresent(p, ext); err != nil || done {
			return len(p), err
		}
		// This will take a while: let others have the reader.
		if s := f.server.Load(); s != nil {
			s.Block(header)
		}
	}
	ext = f.withNext(sc, nid, int64(off), int64(len(p)))
	if f.waited != nil {
		f.waited.Waits(nid, int64(off))
	}
	if err := f.reader.ReadExtents(ctx, p, ext); err != nil {
		return 0, err
	}
	if f.waited != nil {
		f.waited.Waited(nid, int64(off), p)
	}
	return len(p), nil
}

// What a read that has to wait tells the reader of the rest of the file: so
// many chunks behind it, and no more bytes than that.
const (
	nextChunks = 64
	nextBytes  = 8 << 20
)

// withNext returns the extents of a read of n bytes at off, those in sc, and
// those behind it: who has begun to read a file will likely go on.
func (f *FS) withNext(sc *scratch, nid uint64, off, n int64) []storage.Extent {
	more := int64(nextBytes)
	if b := sc.extents[len(sc.extents)-1].Chunk.Blob; b != nil && b.ChunkSize > 0 {
		more = min(more, nextChunks*int64(b.ChunkSize))
	}
	next, err := f.tree.Extents(sc.next[:0], nid, off, n+more)
	if err != nil {
		return sc.extents // what cannot be read will be found out when it is
	}
	sc.next = next
	return next
}

// Lseek finds data and holes.
func (f *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	const seekData, seekHole = 3, 4
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	nid := f.ids.nid(in.NodeId)
	sc := getScratch()
	defer putScratch(sc)
	if err := f.tree.Stat(nid, &sc.inode); err != nil {
		return f.status("lseek", nid, err)
	}
	if in.Offset >= sc.inode.Size {
		return fuse.Status(syscall.ENXIO)
	}
	pos, err := f.seek(sc, nid, int64(in.Offset), in.Whence == seekHole)
	if err != nil {
		return f.status("lseek", nid, err)
	}
	out.Offset = uint64(pos)
	return fuse.OK
}

// seekStep is how much of a file's extents is looked at in one go.
const seekStep = 64 << 20

// seek returns the first offset from off on that is data, or a hole. The end
// of the file is a hole; that there is no more data is ENXIO.
func (f *FS) seek(sc *scratch, nid uint64, off int64, hole bool) (int64, error) {
	size := int64(sc.inode.Size)
	if _, inline, err := f.tree.Inline(nil, nid, off); err != nil || inline {
		if hole {
			return size, err
		}
		return off, err
	}
	for off < size {
		ext, err := f.tree.Extents(sc.extents[:0], nid, off, min(seekStep, size-off))
		if err != nil {
			return 0, err
		}
		sc.extents = ext
		if len(ext) == 0 {
			break
		}
		for i := range ext {
			if ext[i].Hole() == hole {
				return max(off, ext[i].FileOffset), nil
			}
		}
		off = end(ext)
	}
	if hole {
		return size, nil
	}
	return 0, syscall.ENXIO
}

// end returns the offset behind the last of ext, of which there is one.
func end(ext []storage.Extent) int64 {
	last := &ext[len(ext)-1]
	return last.FileOffset + last.Length
}

// requestContext is a context that ends when its request is interrupted. It
// is one pointer, so that making it a context.Context allocates nothing.
type requestContext struct{ cancel <-chan struct{} }

func (c requestContext) Done() <-chan struct{} { return c.cancel }

func (c requestContext) Err() error {
	select {
	case <-c.cancel:
		return context.Canceled
	default:
		return nil
	}
}

func (requestContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (requestContext) Value(any) any               { return nil }
