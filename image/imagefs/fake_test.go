package imagefs

import (
	"context"
	"errors"
	"io/fs"
	"sort"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// fakeTree is an image in memory. Its files are cut into chunks of 4096
// bytes of one blob, whose UncompressedOffset is the place in the data.
type fakeTree struct {
	inodes map[uint64]*fakeNode
	root   uint64
	blob   *storage.Blob
}

type fakeNode struct {
	in     image.Inode
	names  map[string]uint64
	data   string // contents or target; '.' bytes are holes in units of chunks
	inline bool
	xattrs map[string]string
	base   int64 // of the data in the blob
	broken bool
}

const fakeChunk = 4096

func (t *fakeTree) node(nid uint64) (*fakeNode, error) {
	n := t.inodes[nid]
	if n == nil || n.broken {
		return nil, &image.FormatError{Format: "fake", Offset: int64(nid), What: "no such inode"}
	}
	return n, nil
}

func (t *fakeTree) Root() uint64 { return t.root }

func (t *fakeTree) Stat(nid uint64, in *image.Inode) error {
	n, err := t.node(nid)
	if err != nil {
		return err
	}
	*in = n.in
	in.NID = nid
	return nil
}

func (t *fakeTree) Lookup(dir uint64, name string) (uint64, error) {
	n, err := t.node(dir)
	if err != nil {
		return 0, err
	}
	if nid, ok := n.names[name]; ok {
		return nid, nil
	}
	return 0, fs.ErrNotExist
}

func (t *fakeTree) ReadDir(dir uint64, cookie uint64, f func(image.Dirent) bool) error {
	n, err := t.node(dir)
	if err != nil {
		return err
	}
	names := []string{".", ".."}
	for name := range n.names {
		names = append(names, name)
	}
	sort.Strings(names[2:])
	for i := int(cookie); i < len(names); i++ {
		nid := dir
		typ := uint8(4)
		if i >= 2 {
			nid = n.names[names[i]]
			typ = uint8(t.inodes[nid].in.Mode >> 12)
		}
		if !f(image.Dirent{Name: []byte(names[i]), NID: nid, Next: uint64(i + 1), Type: typ}) {
			break
		}
	}
	return nil
}

func (t *fakeTree) Readlink(nid uint64) ([]byte, error) {
	n, err := t.node(nid)
	if err != nil {
		return nil, err
	}
	return []byte(n.data), nil
}

func (t *fakeTree) Xattr(nid uint64, name string) ([]byte, error) {
	n, err := t.node(nid)
	if err != nil {
		return nil, err
	}
	if v, ok := n.xattrs[name]; ok {
		return []byte(v), nil
	}
	return nil, image.ErrNoXattr
}

func (t *fakeTree) ListXattr(nid uint64, f func(string, []byte) bool) error {
	n, err := t.node(nid)
	if err != nil {
		return err
	}
	for name := range n.xattrs {
		if !f("user.", []byte(name[len("user."):])) {
			break
		}
	}
	return nil
}

func (t *fakeTree) Extents(dst []storage.Extent, nid uint64, off, n int64) ([]storage.Extent, error) {
	node, err := t.node(nid)
	if err != nil {
		return dst, err
	}
	size := int64(len(node.data))
	for n = min(n, size-off); n > 0; {
		chunk := off / fakeChunk * fakeChunk
		end := min(chunk+fakeChunk, size)
		e := storage.Extent{FileOffset: off, Length: min(n, end-off)}
		if node.data[chunk] != '.' {
			e.ChunkOffset = uint32(off - chunk)
			e.Chunk = storage.Chunk{
				Blob: t.blob, UncompressedOffset: node.base + chunk, UncompressedSize: uint32(end - chunk),
				Offset: node.base + chunk, Size: uint32(end - chunk), Index: uint32((node.base + chunk) / fakeChunk),
			}
		}
		dst = append(dst, e)
		off += e.Length
		n -= e.Length
	}
	return dst, nil
}

func (t *fakeTree) Inline(p []byte, nid uint64, off int64) (int, bool, error) {
	n, err := t.node(nid)
	if err != nil || !n.inline {
		return 0, false, err
	}
	if off >= int64(len(n.data)) {
		return 0, true, nil
	}
	return copy(p, n.data[off:]), true, nil
}

func (t *fakeTree) Blobs() []*storage.Blob { return []*storage.Blob{t.blob} }
func (t *fakeTree) Prefetch() []uint64     { return nil }
func (t *fakeTree) Info() image.Info {
	return image.Info{Format: "fake", Inodes: uint64(len(t.inodes)), BlockSize: 4096, ChunkSize: fakeChunk, Size: 100}
}
func (t *fakeTree) Close() error { return nil }

// fakeReader has the data of a fakeTree.
type fakeReader struct {
	data    []byte
	fail    error
	reads   int
	present bool
}

func (r *fakeReader) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	r.reads++
	if r.fail != nil {
		return r.fail
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range ext {
		e := &ext[i]
		n := min(int64(len(p)), e.Length)
		if e.Hole() {
			clear(p[:n])
		} else {
			copy(p[:n], r.data[e.Chunk.UncompressedOffset+int64(e.ChunkOffset):])
		}
		p = p[n:]
	}
	if len(p) > 0 {
		return errors.New("extents are shorter than the buffer")
	}
	return nil
}

func (r *fakeReader) ReadPresent(p []byte, ext []storage.Extent) (bool, error) {
	if !r.present {
		return false, nil
	}
	return true, r.ReadExtents(context.Background(), p, ext)
}

// fake builds an image with one of everything; its root is numbered 36, and
// inodes 0 and 1 are ordinary ones.
func fake() (*fakeTree, *fakeReader) {
	t := &fakeTree{root: 36, inodes: map[uint64]*fakeNode{}, blob: &storage.Blob{ID: "b", UncompressedSize: 1 << 20}}
	r := &fakeReader{}
	add := func(nid uint64, mode uint32, data string) *fakeNode {
		n := &fakeNode{in: image.Inode{Mode: mode, Size: uint64(len(data)), Nlink: 1, MTime: 1700000000, MTimeNsec: 5, UID: 10, GID: 20}, data: data}
		n.base = int64(len(r.data))
		r.data = append(r.data, data...)
		for len(r.data)%fakeChunk != 0 {
			r.data = append(r.data, 0)
		}
		t.inodes[nid] = n
		return n
	}
	root := add(36, image.TypeDirectory|0o755, "")
	root.names = map[string]uint64{"zero": 0, "one": 1, "big": 40, "link": 41, "dir": 42, "bad": 50, "sparse": 43}
	add(0, image.TypeRegular|0o644, "file of number zero").inline = true
	add(1, image.TypeRegular|0o600, "file of number one")
	big := make([]byte, 3*fakeChunk+100)
	for i := range big {
		big[i] = byte('a' + i/7%26)
	}
	add(40, image.TypeRegular|0o755, string(big)).xattrs = map[string]string{"user.k": "value", "user.longer": ""}
	add(41, image.TypeSymlink|0o777, "dir/target")
	add(42, image.TypeDirectory|0o700, "").names = map[string]uint64{"one": 1}
	sparse := make([]byte, 4*fakeChunk)
	for i := range sparse {
		sparse[i] = ".x.."[i/fakeChunk]
	}
	add(43, image.TypeRegular|0o644, string(sparse))
	add(50, image.TypeRegular|0o644, "x").broken = true
	return t, r
}
