package erofs

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"runtime/debug"

	"github.com/sluicefs/sluice/image"
)

// dirBlock is one block of a directory: an array of entries, then the names.
type dirBlock struct {
	b   []byte
	off uint64 // byte in the image
	n   int    // entries
}

// dirBlock reads block i of the directory n.
func (im *Image) dirBlock(n *Node, i uint64) (d dirBlock, err error) {
	start := i << im.super.BlockBits
	d.b, d.off, err = im.flat(n, start, min(im.blockSize, n.Size-start))
	if err != nil {
		return d, err
	}
	if len(d.b) < DirentSize {
		return d, im.Errorf(int64(d.off), "directory %d: %d bytes are too few for an entry", n.NID, len(d.b))
	}
	names := binary.LittleEndian.Uint16(d.b[8:])
	if names < DirentSize || names%DirentSize != 0 || int(names) >= len(d.b) {
		return d, im.Errorf(int64(d.off)+8, "directory %d: names at %d", n.NID, names)
	}
	d.n = int(names / DirentSize)
	return d, nil
}

// name returns the name of entry i, nil if it is wrong.
func (d *dirBlock) name(i int) []byte {
	le := binary.LittleEndian
	start := int(le.Uint16(d.b[i*DirentSize+8:]))
	end := len(d.b)
	if i+1 < d.n {
		end = int(le.Uint16(d.b[(i+1)*DirentSize+8:]))
	}
	if start < d.n*DirentSize || start >= end || end > len(d.b) {
		return nil
	}
	name := d.b[start:end]
	if i+1 == d.n { // the last name ends at padding, if there is any
		if k := bytes.IndexByte(name, 0); k >= 0 {
			name = name[:k]
		}
	}
	if len(name) == 0 || len(name) > MaxNameLen {
		return nil
	}
	return name
}

func (d *dirBlock) nid(i int) uint64 { return binary.LittleEndian.Uint64(d.b[i*DirentSize:]) }

func (im *Image) badName(n *Node, d *dirBlock, i int) error {
	return im.Errorf(int64(d.off)+int64(i)*DirentSize+8, "directory %d: name of an entry is not within its block, or is not a name", n.NID)
}

// direntTypes are the DT_ values of the file types in entries.
var direntTypes = [8]uint8{
	TypeRegular: image.TypeRegular >> 12,
	TypeDir:     image.TypeDirectory >> 12,
	TypeChar:    image.TypeChar >> 12,
	TypeBlock:   image.TypeBlock >> 12,
	TypeFIFO:    image.TypeFIFO >> 12,
	TypeSocket:  image.TypeSocket >> 12,
	TypeSymlink: image.TypeSymlink >> 12,
}

// ReadDir calls f for the entries of dir behind cookie until it returns
// false. A cookie is the block's first byte plus the number of entries of
// the block that are done.
func (im *Image) ReadDir(dir, cookie uint64, f func(image.Dirent) bool) (err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.dir(dir, &n); err != nil {
		return err
	}
	block := cookie >> im.super.BlockBits
	first := int(cookie & (im.blockSize - 1))
	for ; block<<im.super.BlockBits < n.Size; block++ {
		d, err := im.dirBlock(&n, block)
		if err != nil {
			return err
		}
		base := block << im.super.BlockBits
		for i := first; i < d.n; i++ {
			name := d.name(i)
			if name == nil || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 {
				return im.badName(&n, &d, i)
			}
			e := image.Dirent{Name: name, NID: d.nid(i), Next: base + uint64(i) + 1, Type: direntTypes[d.b[i*DirentSize+10]&7]}
			if !f(e) {
				return nil
			}
		}
		first = 0
	}
	return nil
}

// compare is bytes.Compare of a name in the image and a string.
func compare(b []byte, s string) int {
	switch {
	case string(b) == s:
		return 0
	case string(b) < s:
		return -1
	}
	return 1
}

// Lookup finds name in dir by binary search, first for the block, then in it.
func (im *Image) Lookup(dir uint64, name string) (nid uint64, err error) {
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	var n Node
	if err := im.dir(dir, &n); err != nil {
		return 0, err
	}
	var last dirBlock // the last block seen whose first name is not behind name
	lo, hi := uint64(0), (n.Size+im.blockSize-1)>>im.super.BlockBits
	for lo < hi {
		mid := lo + (hi-lo)/2
		d, err := im.dirBlock(&n, mid)
		if err != nil {
			return 0, err
		}
		first := d.name(0)
		if first == nil {
			return 0, im.badName(&n, &d, 0)
		}
		switch compare(first, name) {
		case 0:
			return d.nid(0), nil
		case 1:
			hi = mid
		default:
			lo, last = mid+1, d
		}
	}
	return im.searchBlock(&n, &last, name)
}

func (im *Image) searchBlock(n *Node, d *dirBlock, name string) (uint64, error) {
	lo, hi := 1, d.n // the caller has compared entry 0
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		got := d.name(mid)
		if got == nil {
			return 0, im.badName(n, d, mid)
		}
		switch compare(got, name) {
		case 0:
			return d.nid(mid), nil
		case 1:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	return 0, fs.ErrNotExist
}
