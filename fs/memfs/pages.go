package memfs

// pages is the data of a file: pages of which those that were never written
// do not exist. They are kept in groups, which likewise exist where there is
// data, so that a file of one byte at the far end takes little.
type pages struct {
	size   int64
	stored int64 // bytes that the pages take
	groups []*group
}

// group is some pages in a row; nil is a hole.
type group [groupPages][]byte

const (
	pageSize   = 64 << 10
	groupPages = 256
	maxSize    = 1 << 40 // bytes of a file, which bounds the list of groups
)

func pageCount(size int64) int { return int((size + pageSize - 1) / pageSize) }

// page returns a page, or nil for a hole.
func (p *pages) page(i int) []byte {
	if i/groupPages >= len(p.groups) || p.groups[i/groupPages] == nil {
		return nil
	}
	return p.groups[i/groupPages][i%groupPages]
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
		if page := p.page(i); page != nil {
			copy(part, page[at:])
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
		if p.page(i) == nil {
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
	if groups := (last + groupPages - 1) / groupPages; groups > len(p.groups) {
		p.groups = append(p.groups, make([]*group, groups-len(p.groups))...)
	}
	for i := int(off / pageSize); i < last; i++ {
		if p.page(i) != nil {
			continue
		}
		g := &p.groups[i/groupPages]
		if *g == nil {
			*g = new(group)
		}
		(*g)[i%groupPages] = make([]byte, pageSize)
		p.stored += pageSize
	}
}

// writeAt writes b, for which there are pages.
func (p *pages) writeAt(b []byte, off int64) {
	for n := 0; n < len(b); {
		i, at := int((off+int64(n))/pageSize), int((off+int64(n))%pageSize)
		n += copy(p.page(i)[at:], b[n:])
	}
	p.size = max(p.size, off+int64(len(b)))
}

// truncate sets the size and returns the bytes of pages that were dropped.
func (p *pages) truncate(size int64) (freed int64) {
	keep := pageCount(size)
	freed = p.drop(keep, len(p.groups)*groupPages)
	if groups := (keep + groupPages - 1) / groupPages; groups < len(p.groups) {
		p.groups = append([]*group(nil), p.groups[:groups]...)
	}
	if at := size % pageSize; at != 0 && size < p.size {
		if page := p.page(keep - 1); page != nil {
			clear(page[at:]) // shows as zeros if the file grows again
		}
	}
	p.size = size
	return freed
}

// drop makes holes of the pages from first to last-1, and returns the bytes
// that they took.
func (p *pages) drop(first, last int) (freed int64) {
	for i := first; i < min(last, len(p.groups)*groupPages); i++ {
		g := p.groups[i/groupPages]
		if g == nil {
			i |= groupPages - 1 // none in the rest of it
			continue
		}
		freed += int64(len(g[i%groupPages]))
		g[i%groupPages] = nil
	}
	p.stored -= freed
	return freed
}

// punch makes [off, off+n) a hole and returns the bytes of pages that were
// dropped.
func (p *pages) punch(off, n int64) (freed int64) {
	end := off + n
	first, last := pageCount(off), int(end/pageSize) // whole pages
	if head := min(end, int64(first)*pageSize); off < head {
		p.zero(off, head)
	}
	if tail := max(off, int64(last)*pageSize); tail < end && first <= last {
		p.zero(tail, end)
	}
	return p.drop(first, last)
}

// zero clears [off, end), which lies in one page.
func (p *pages) zero(off, end int64) {
	i := int(off / pageSize)
	if page := p.page(i); page != nil {
		base := int64(i) * pageSize
		clear(page[off-base : end-base])
	}
}

// seek finds data, or a hole, from off on; false if there is none.
func (p *pages) seek(off int64, data bool) (int64, bool) {
	if off >= p.size {
		return 0, false
	}
	for ; off < p.size; off = (off/pageSize + 1) * pageSize {
		i := int(off / pageSize)
		if (p.page(i) != nil) == data {
			return off, true
		}
		if data && (i/groupPages >= len(p.groups) || p.groups[i/groupPages] == nil) {
			off = int64(i|(groupPages-1)) * pageSize // none in the rest of it
		}
	}
	return p.size, !data
}
