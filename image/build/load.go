package build

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// loader brings an image that exists into a tree and a store: names,
// attributes, and where its chunks are.
type loader struct {
	src   image.Tree
	tree  *tree
	store *store
	layer int32
	size  uint32 // chunk size
	// variable: chunks may be smaller than that anywhere in a file.
	variable bool
	blobs    []*blob // in the order of the image's table
	added    []uint32
	links    map[uint64]*inode
	dirs     map[uint64]*inode
	depth    int
	ext      []storage.Extent
	keep     map[uint32]storage.Chunk // if set, gets the chunks that files have
	// file, if set, is called for a regular file in place of data.
	file func(n *inode, nid uint64, path string) error
}

// maxDepth is how deep the directories of an image may lie in each other; a
// deeper one is taken for a loop.
const maxDepth = 4096

// newLoader reads the blob table and the chunk table of src. A blob that an
// image loaded before has as well is one blob. rename, if not nil, may change
// what the image says of a blob.
func newLoader(src image.Tree, t *tree, s *store, layer int32, rename func(*blob)) (*loader, error) {
	info := src.Info()
	l := &loader{
		src: src, tree: t, store: s, layer: layer, size: info.ChunkSize, variable: variableChunks(info),
		links: map[uint64]*inode{}, dirs: map[uint64]*inode{},
	}
	v6, _ := src.(*rafs.V6)
	for i, from := range src.Blobs() {
		b := &blob{id: from.ID, dataSize: uint64(from.DataSize), info: rafs.BlobInfo{
			ChunkSize: from.ChunkSize, ChunkCount: from.ChunkCount, Compressor: uint32(from.Compressor),
			Digester: uint32(from.Digester), CompressedSize: uint64(from.Size), UncompressedSize: uint64(from.UncompressedSize),
			Features: rafs.BlobCapTarTOC,
		}}
		if v6 != nil {
			b.info = v6.BlobInfos()[i]
		}
		if rename != nil {
			rename(b)
		}
		if old := s.blob(b.id); old != nil {
			b = old
		} else {
			s.addBlob(b)
		}
		l.blobs = append(l.blobs, b)
	}
	if v6 == nil {
		return l, nil
	}
	ext := v6.Ext()
	table := v6.Data()[ext.ChunkTableOffset:][:ext.ChunkTableSize]
	for ; len(table) >= rafs.ChunkInfoSize; table = table[rafs.ChunkInfoSize:] {
		c, _ := rafs.ParseChunkInfo(table)
		if int(c.Blob) >= len(l.blobs) {
			return nil, &image.FormatError{Format: info.Format, Offset: -1, What: fmt.Sprintf("chunk table: blob %d of %d", c.Blob, len(l.blobs))}
		}
		l.add(&c)
	}
	return l, nil
}

// add stores the chunk of the record c unless it is there.
func (l *loader) add(c *rafs.ChunkInfo) uint32 {
	key := place{l.blobs[c.Blob].at, c.Index}
	if at, ok := l.store.loaded[key]; ok {
		return at
	}
	at := l.store.add(&chunk{
		digest: c.Digest, compOff: c.CompressedOffset, uncompOff: c.UncompressedOffset, compSize: c.CompressedSize,
		uncompSize: c.UncompressedSize, index: c.Index, flags: c.Flags, crc: c.CRC, fileOff: c.FileOffset, blob: key.blob,
	}, false)
	l.store.loaded[key] = at
	l.added = append(l.added, at)
	return at
}

// index makes the loaded chunks known by their digests, so that data is not
// stored again that one of them has. Chunks of another digest function or
// without digests stay unknown.
func (l *loader) index(digester storage.Algorithm) {
	for _, at := range l.added {
		c := l.store.chunks.at(at)
		if storage.Algorithm(l.store.of(c).info.Digester) != digester || c.digest == [32]byte{} {
			continue
		}
		l.store.byDigest.add(&l.store.chunks, at)
	}
}

// root loads the whole tree and returns its root directory.
func (l *loader) root() (*inode, error) { return l.node(l.src.Root(), "/") }

// node loads the inode nid and what is below it. path is for messages.
func (l *loader) node(nid uint64, path string) (*inode, error) {
	if n := l.links[nid]; n != nil {
		return n, nil
	}
	var st image.Inode
	if err := l.src.Stat(nid, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", image.OneLine(path), err)
	}
	n := &inode{
		mode: st.Mode, uid: st.UID, gid: st.GID, mtime: st.MTime, mtimeNsec: st.MTimeNsec, layer: l.layer,
	}
	var err error
	switch {
	case n.isDir():
		err = l.dir(n, nid, path)
	case n.isRegular():
		n.size = int64(st.Size)
		if l.file != nil {
			err = l.file(n, nid, path)
		} else {
			err = l.data(n, nid)
		}
	case n.isSymlink():
		var target []byte
		target, err = l.src.Readlink(nid)
		n.extra().target = string(target)
	case n.isDevice():
		n.rdev = st.Rdev
	case n.kind() != syscall.S_IFIFO && n.kind() != syscall.S_IFSOCK:
		err = fmt.Errorf("mode %#o is not known", n.mode)
	}
	if err == nil {
		err = l.xattrs(n, nid, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !n.isDir() {
		l.links[nid] = n
	}
	return n, nil
}

func (l *loader) xattrs(n *inode, nid uint64, path string) error {
	var list []xattr
	var failed error
	err := l.src.ListXattr(nid, func(prefix string, suffix []byte) bool {
		name := prefix + string(suffix)
		value, err := l.src.Xattr(nid, name)
		if err != nil {
			failed = err
			return false
		}
		list = append(list, xattr{name, string(value)})
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return l.tree.setXattrs(n, list, path)
}

func (l *loader) dir(n *inode, nid uint64, path string) error {
	if l.depth++; l.depth > maxDepth {
		return fmt.Errorf("directories lie more than %d deep", maxDepth)
	}
	defer func() { l.depth-- }()
	if l.dirs[nid] != nil {
		return fmt.Errorf("directory inode %d has two names", nid)
	}
	l.dirs[nid] = n
	type name struct {
		name string
		nid  uint64
	}
	var list []name
	err := l.src.ReadDir(nid, 0, func(e image.Dirent) bool {
		if s := string(e.Name); s != "." && s != ".." {
			list = append(list, name{l.tree.spelling.keep(s), e.NID})
		}
		return true
	})
	if err != nil {
		return err
	}
	n.extra().list = make([]entry, 0, len(list))
	for _, e := range list {
		child, err := l.node(e.nid, strings.TrimSuffix(path, "/")+"/"+e.name)
		if err != nil {
			return err
		}
		if n.own.get(e.name) != nil {
			return fmt.Errorf("%s stands twice", e.name)
		}
		n.own.set(e.name, child)
	}
	return nil
}

// data loads where the bytes of the regular file n are.
func (l *loader) data(n *inode, nid uint64) error {
	if n.size == 0 {
		return nil
	}
	if l.size == 0 {
		return fmt.Errorf("the image has no chunks")
	}
	var err error
	if l.ext, err = l.src.Extents(l.ext[:0], nid, 0, n.size); err != nil {
		return err
	}
	if l.variable {
		return l.variableData(n)
	}
	count := (n.size + int64(l.size) - 1) / int64(l.size)
	if count > int64(len(l.ext)) && count > 1<<24 {
		return fmt.Errorf("%d bytes in %d extents", n.size, len(l.ext))
	}
	chunks := n.makeChunks(count)
	for i := range chunks {
		chunks[i] = holeChunk
	}
	if rafs.SuperFlags(l.src.Info().Flags)&rafs.TarfsMode != 0 {
		return l.tarData(n)
	}
	for i := range l.ext {
		e := &l.ext[i]
		if e.Hole() {
			continue
		}
		if e.FileOffset%int64(l.size) != 0 || e.ChunkOffset != 0 {
			return fmt.Errorf("data at %d is not a chunk of %d bytes", e.FileOffset, l.size)
		}
		chunks[e.FileOffset/int64(l.size)] = l.extent(e)
	}
	return nil
}

// variableData loads the chunks of n, which have sizes of their own.
func (l *loader) variableData(n *inode) error {
	chunks := make([]uint32, 0, len(l.ext))
	end := int64(0)
	for i := range l.ext {
		e := &l.ext[i]
		if e.Hole() || e.FileOffset != end || e.ChunkOffset != 0 || e.Length != int64(e.Chunk.UncompressedSize) {
			return fmt.Errorf("data at %d is not a whole chunk", e.FileOffset)
		}
		chunks = append(chunks, l.extent(e))
		end += e.Length
	}
	n.setChunks(chunks)
	return nil
}

// extent stores the chunk of e, the whole of which a file has.
func (l *loader) extent(e *storage.Extent) uint32 {
	c := &e.Chunk
	at := l.add(&rafs.ChunkInfo{
		Digest: c.Digest.Sum, Blob: uint32(c.Blob.Index), Flags: recordFlags(c), CompressedSize: c.Size,
		UncompressedSize: c.UncompressedSize, CompressedOffset: uint64(c.Offset),
		UncompressedOffset: uint64(c.UncompressedOffset), FileOffset: uint64(e.FileOffset), Index: c.Index, CRC: c.CRC32C,
	})
	if l.keep != nil {
		l.keep[at] = *c
	}
	return at
}

// tarData loads where the bytes of n are in a tar: one after another, from
// the first extent on.
func (l *loader) tarData(n *inode) error {
	if len(l.ext) == 0 || l.ext[0].Hole() {
		return fmt.Errorf("a hole in a tar")
	}
	first := &l.ext[0]
	base := uint64(first.Chunk.UncompressedOffset) + uint64(first.ChunkOffset)
	left := uint64(n.size)
	chunks := n.chunks()
	for i := range chunks {
		off := base + uint64(i)*uint64(l.size)
		size := uint32(min(left, uint64(l.size)))
		chunks[i] = l.store.add(&chunk{
			blob: l.blobs[first.Chunk.Blob.Index].at, compOff: off, uncompOff: off, compSize: size, uncompSize: size,
			index: uint32(i) % rafs.MaxChunks, fileOff: uint64(i) * uint64(l.size),
		}, false)
		left -= uint64(size)
	}
	return nil
}

// recordFlags are the flags of c in a chunk record.
func recordFlags(c *storage.Chunk) (f uint32) {
	if c.Flags&storage.Compressed != 0 {
		f |= rafs.ChunkCompressed
	}
	if c.Flags&storage.Encrypted != 0 {
		f |= rafs.ChunkEncrypted
	}
	if c.Flags&storage.HasCRC32C != 0 {
		f |= rafs.ChunkHasCRC
	}
	if c.Flags&storage.InGroup != 0 && !c.Group.Deflate {
		f |= rafs.ChunkBatch
	}
	return f
}

// loadParents brings the parent and the dictionaries into b.
func (b *builder) loadParents() error {
	if p := b.opt.Parent; p != nil {
		l, err := newLoader(p, b.tree, b.store, b.layer, nil)
		if err == nil {
			err = l.fits(b.opt)
		}
		if err != nil {
			return fmt.Errorf("parent image: %w", err)
		}
		if b.tree.root, err = l.root(); err != nil {
			return fmt.Errorf("parent image: %w", err)
		}
		l.index(b.opt.Digester)
	}
	for _, d := range b.opt.Dicts {
		l, err := newLoader(d, newTree(b.opt.Warn), b.store, 0, nil)
		if err == nil {
			err = l.fits(b.opt)
		}
		if err == nil {
			_, err = l.root() // v5 has its chunks nowhere else
		}
		if err != nil {
			return fmt.Errorf("chunk dictionary: %w", err)
		}
		l.index(b.opt.Digester)
	}
	return nil
}

// prefetch is the image's list of what is to be fetched first.
func (l *loader) prefetch() (list []*inode) {
	for _, nid := range l.src.Prefetch() {
		n := l.links[nid]
		if n == nil {
			n = l.dirs[nid]
		}
		if n != nil {
			list = append(list, n)
		}
	}
	return list
}

// fits says whether chunks of the loaded image can be in one made with o.
func (l *loader) fits(o *Options) error {
	if l.size != o.ChunkSize {
		return fmt.Errorf("has chunks of %d bytes, not of %d", l.size, o.ChunkSize)
	}
	return nil
}
