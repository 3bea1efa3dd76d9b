// Package image is what all image formats have in common: a [Tree] is the
// read-only metadata of an image, opened by a package below this one (rafs,
// erofs) and shown as a file system by package imagefs.
//
// A tree knows nothing of FUSE, of caches or of where blobs are kept: it
// answers with inodes, names and extents (package storage). What it answers
// is derived from mapped, hostile metadata: every answer has been checked
// for the bounds of the image, and what is wrong is a [FormatError].
package image

import (
	"context"
	"fmt"

	"github.com/sluicefs/sluice/storage"
)

// Inode is the metadata of one inode, in the form that all formats share.
type Inode struct {
	NID       uint64 // the format's own number; what stat shows as st_ino
	Size      uint64 // bytes
	Blocks    uint64 // 512-byte units, as st_blocks
	MTime     int64  // seconds since 1970
	MTimeNsec uint32
	Mode      uint32 // type and permission bits as in st_mode
	UID, GID  uint32
	Nlink     uint32
	Rdev      uint32 // Linux "new encoding": minor & 0xff | major << 8 | minor &^ 0xff << 12
}

// Dirent is one name in a directory.
type Dirent struct {
	Name []byte // lies in the image; valid until the tree is closed
	NID  uint64
	Next uint64 // cookie that continues behind this entry
	Type uint8  // DT_REG and so on (the type bits of st_mode >> 12)
}

// Tree is the read-only metadata of an image. All methods are safe for
// concurrent use and do not allocate on success unless said otherwise.
//
// A NID that is not an inode of the image gives a FormatError, never bytes of
// something else; a name that is not there gives fs.ErrNotExist (the very
// value, unwrapped).
type Tree interface {
	// Root is the NID of the root directory.
	Root() uint64
	// Stat fills in with the attributes of nid.
	Stat(nid uint64, in *Inode) error
	// Lookup finds name in the directory dir.
	Lookup(dir uint64, name string) (nid uint64, err error)
	// ReadDir calls f for the entries of dir behind cookie, 0 being the
	// start, in the order of the image with "." and ".." among them, until f
	// returns false.
	ReadDir(dir uint64, cookie uint64, f func(Dirent) bool) error
	// Readlink returns the target of a symbolic link, valid until Close.
	Readlink(nid uint64) ([]byte, error)
	// Xattr returns the value of the named attribute with its full name
	// ("user.x"), valid until Close; ErrNoXattr if it is not there.
	Xattr(nid uint64, name string) ([]byte, error)
	// ListXattr calls f for each attribute name until f returns false. The
	// name is prefix+suffix, e.g. "user." and "x".
	ListXattr(nid uint64, f func(prefix string, suffix []byte) bool) error
	// Extents appends the extents of the regular file nid that cover
	// [off, off+n), cut to the file's size and to that range, holes
	// included, in order, and returns the longer slice. Data that the
	// metadata itself holds (inline) is had through Inline instead.
	Extents(dst []storage.Extent, nid uint64, off, n int64) ([]storage.Extent, error)
	// Inline copies into p the bytes of a regular file whose data lies in
	// the metadata, from off on, and reports whether it is such a file.
	Inline(p []byte, nid uint64, off int64) (n int, inline bool, err error)
	// Blobs are the blobs in the order of the image's table.
	Blobs() []*storage.Blob
	// Prefetch lists the NIDs of files and directories that the image asks
	// to have fetched first; the root alone means all.
	Prefetch() []uint64
	// Info says what the image as a whole is.
	Info() Info
	// Close gives the mapping back. Nothing of the tree may be used after.
	Close() error
}

// MetaLoader is implemented by trees that may need more than their metadata
// to say where chunks are stored: what lies in the blobs themselves.
type MetaLoader interface {
	// LoadMeta reads it from b, and returns at once if nothing is needed. It
	// is called once, before Extents, and not beside other methods.
	LoadMeta(ctx context.Context, b storage.Backend) error
}

// Trimmer is implemented by trees whose metadata is a mapped file.
type Trimmer interface {
	// Trim gives memory back that the metadata takes and that can be had
	// from the file again. It may run beside other methods, but Close.
	Trim()
}

// Info is what an image says of itself.
type Info struct {
	Format     string // "rafs v6", "rafs v5", "erofs"
	Inodes     uint64 // number of inodes, 0 if unknown
	BlockSize  uint32
	ChunkSize  uint32
	Size       int64 // bytes of metadata
	Flags      uint64
	Digester   storage.Algorithm
	Compressor storage.Compressor
}

// FormatError says that an image is corrupt, or uses what is not supported.
type FormatError struct {
	Format string // "rafs v6", "rafs v5", "erofs"
	Offset int64  // byte in the metadata, -1 if it is not one place
	What   string // the field or table, and what is wrong with it
}

func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.Format, e.What)
	}
	return fmt.Sprintf("%s: offset %d: %s", e.Format, e.Offset, e.What)
}

// ErrNoXattr says that an inode has no attribute of that name.
var ErrNoXattr = noXattr{}

type noXattr struct{}

func (noXattr) Error() string { return "no such extended attribute" }
