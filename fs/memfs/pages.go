package memfs

// pages is the data of a file: pages of which those that were never written
// do not exist. The first one is as long as what has been written to it, so
// that a small file takes little. The others are whole and are kept in groups,
// which likewise exist where there is data, so that a file of one byte at the
// far end takes little, too.
type pages struct {
	size   int64
	stored int64  // bytes that the pages take
	first  []byte // page 0, perhaps a short one; what lies behind it is zero
	groups []*group
}

// group is some pages in a row; nil is a hole.
type group [groupPages][]byte

const (
	pageSize   = 64 << 10
	groupPages = 256
	maxSize    = 1 << 40 // bytes of a file, which bounds the list of groups
	sector     = 512     // the length of the first page is a multiple of it
)

func pageCount(size int64) int { return int((size + pageSize - 1) / pageSize) }

// firstLength returns how long the first page is once [0, end) of it has been
// written to: as long as that, or twice as long as it was.
func (p *pages) firstLength(end int64) int64 {
	has := int64(len(p.first))
	if end <= has {
		return has
	}
	return min(max((end+sector-1)/sector*sector, 2*has), pageSize)
}

// page returns a page, or nil for a hole.
func (p *pages) page(i int) []byte {
	if i == 0 {
		return p.first
	}
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
		has := 0
		if page := p.page(i); at < len(page) {
			has = copy(part, page[at:])
		}
		clear(part[has:])
		n += len(part)
	}
	return len(b)
}

// missing returns how many bytes of pages a write to [off, off+n) adds.
func (p *pages) missing(off, n int64) (bytes int64) {
	if n == 0 {
		return 0
	}
	if off < pageSize {
		bytes = p.firstLength(min(off+n, pageSize)) - int64(len(p.first))
	}
	for i := max(1, int(off/pageSize)); i < pageCount(off+n); i++ {
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
	if off < pageSize {
		p.resizeFirst(p.firstLength(min(off+n, pageSize)))
	}
	last := pageCount(off + n)
	if last <= 1 {
		return
	}
	if groups := (last + groupPages - 1) / groupPages; groups > len(p.groups) {
		p.groups = append(p.groups, make([]*group, groups-len(p.groups))...)
	}
	for i := max(1, int(off/pageSize)); i < last; i++ {
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

// resizeFirst makes the first page n bytes long.
func (p *pages) resizeFirst(n int64) {
	if n == int64(len(p.first)) {
		return
	}
	p.stored += n - int64(len(p.first))
	first := make([]byte, n)
	copy(first, p.first)
	p.first = first
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
	freed = p.drop(keep, max(1, len(p.groups)*groupPages))
	if groups := (keep + groupPages - 1) / groupPages; groups < len(p.groups) {
		p.groups = append([]*group(nil), p.groups[:groups]...)
	}
	if at := size % pageSize; at != 0 && size < p.size {
		if page := p.page(keep - 1); at < int64(len(page)) {
			clear(page[at:]) // shows as zeros if the file grows again
		}
	}
	if has := int64(len(p.first)); size < p.size && 0 < size && size <= has/2 {
		p.resizeFirst((size + sector - 1) / sector * sector)
		freed += has - int64(len(p.first))
	}
	p.size = size
	return freed
}

// drop makes holes of the pages from first to last-1, and returns the bytes
// that they took.
func (p *pages) drop(first, last int) (freed int64) {
	if first == 0 && last > 0 {
		freed, p.first = int64(len(p.first)), nil
	}
	for i := max(1, first); i < min(last, len(p.groups)*groupPages); i++ {
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
	if off == 0 && end >= int64(len(p.first)) {
		freed = p.drop(0, 1) // the first page, though it may be a short one
	}
	first, last := pageCount(off), int(end/pageSize) // whole pages
	if head := min(end, int64(first)*pageSize); off < head {
		p.zero(off, head)
	}
	if tail := max(off, int64(last)*pageSize); tail < end && first <= last {
		p.zero(tail, end)
	}
	return freed + p.drop(first, last)
}

// zero clears [off, end), which lies in one page.
func (p *pages) zero(off, end int64) {
	i := int(off / pageSize)
	base := int64(i) * pageSize
	if page := p.page(i); off-base < int64(len(page)) {
		clear(page[off-base : min(end-base, int64(len(page)))])
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
		if data && i > 0 && (i/groupPages >= len(p.groups) || p.groups[i/groupPages] == nil) {
			off = int64(i|(groupPages-1)) * pageSize // none in the rest of it
		}
	}
	return p.size, !data
}
