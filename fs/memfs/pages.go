package memfs

// pages is the data of a file: pages of which those that were never written
// do not exist.
type pages struct {
	size int64
	list [][]byte // nil for a hole
}

const (
	pageSize = 64 << 10
	maxSize  = 1 << 40 // bytes of a file, which bounds the list of pages
)

func pageCount(size int64) int { return int((size + pageSize - 1) / pageSize) }

// stored returns the bytes that the pages take.
func (p *pages) stored() (n int64) {
	for _, pg := range p.list {
		n += int64(len(pg))
	}
	return n
}

// readAt reads what there is from off on.
func (p *pages) readAt(b []byte, off int64) int {
	if off >= p.size {
		return 0
	}
	b = b[:min(int64(len(b)), p.size-off)]
	for n := 0; n < len(b); {
		i, at := int((off+int64(n))/pageSize), int((off+int64(n))%pageSize)
		part := b[n:min(len(b), n+pageSize-at)]
		if i < len(p.list) && p.list[i] != nil {
			copy(part, p.list[i][at:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(b)
}

// missing returns how many bytes of pages a write to [off, off+n) adds.
func (p *pages) missing(off, n int64) (bytes int64) {
	if n == 0 {
		return 0
	}
	for i := int(off / pageSize); i < pageCount(off+n); i++ {
		if i >= len(p.list) || p.list[i] == nil {
			bytes += pageSize
		}
	}
	return bytes
}

// back makes all pages of [off, off+n) exist.
func (p *pages) back(off, n int64) {
	if n == 0 {
		return
	}
	last := pageCount(off + n)
	if last > len(p.list) {
		p.list = append(p.list, make([][]byte, last-len(p.list))...)
	}
	for i := int(off / pageSize); i < last; i++ {
		if p.list[i] == nil {
			p.list[i] = make([]byte, pageSize)
		}
	}
}

// writeAt writes b, for which there are pages.
func (p *pages) writeAt(b []byte, off int64) {
	for n := 0; n < len(b); {
		i, at := int((off+int64(n))/pageSize), int((off+int64(n))%pageSize)
		n += copy(p.list[i][at:], b[n:])
	}
	p.size = max(p.size, off+int64(len(b)))
}

// truncate sets the size and returns the bytes of pages that were dropped.
func (p *pages) truncate(size int64) (freed int64) {
	keep := pageCount(size)
	for i := keep; i < len(p.list); i++ {
		freed += int64(len(p.list[i]))
	}
	if keep < len(p.list) {
		p.list = append([][]byte(nil), p.list[:keep]...)
	}
	if at := size % pageSize; at != 0 && size < p.size && keep <= len(p.list) && p.list[keep-1] != nil {
		clear(p.list[keep-1][at:]) // shows as zeros if the file grows again
	}
	p.size = size
	return freed
}

// punch makes [off, off+n) a hole and returns the bytes of pages that were
// dropped.
func (p *pages) punch(off, n int64) (freed int64) {
	for end := off + n; off < end; {
		i, at := int(off/pageSize), off%pageSize
		part := min(end-off, pageSize-at)
		if i < len(p.list) && p.list[i] != nil {
			if part == pageSize {
				freed += pageSize
				p.list[i] = nil
			} else {
				clear(p.list[i][at : at+part])
			}
		}
		if i >= len(p.list) {
			break
		}
		off += part
	}
	return freed
}

// seek finds data, or a hole, from off on; false if there is none.
func (p *pages) seek(off int64, data bool) (int64, bool) {
	if off >= p.size {
		return 0, false
	}
	for ; off < p.size; off = (off/pageSize + 1) * pageSize {
		i := int(off / pageSize)
		if (i < len(p.list) && p.list[i] != nil) == data {
			return off, true
		}
	}
	return p.size, !data
}
