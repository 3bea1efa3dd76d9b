package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"log"
	"math"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// Raw shows an archive without a tree of inodes.
type Raw struct {
	fuse.RawFileSystem // answers what is not here with ENOSYS
	archive            *FS
}

var _ fuse.Stateful = (*Raw)(nil)

// Raw returns the archive as a raw file system: node ids are the numbers of
// the nodes, and files need no opening. So another process with the same
// archive can go on where this one stops; it is [fuse.Stateful].
func (a *FS) Raw() fuse.RawFileSystem {
	return &Raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), archive: a}
}

// forever is how long the kernel may keep what it knows.
const forever = 365 * 24 * time.Hour

// node returns the number and node of a node id.
func (r *Raw) node(id uint64) (int32, *node, fuse.Status) {
	nodes := r.archive.tree.nodes
	if id == 0 || id > uint64(len(nodes)) || id > math.MaxInt32 {
		return 0, nil, fuse.Status(syscall.ESTALE)
	}
	return int32(id - 1), &nodes[id-1], fuse.OK
}

// savedState tells whether another process has the same archive.
type savedState struct {
	Nodes int    `json:"nodes"`
	Sum   uint64 `json:"sum"` // of names and sizes, CRC-64
}

func (r *Raw) sum() savedState {
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	r.archive.tree.Walk(func(name string, e *Entry) {
		fmt.Fprintf(h, "%q %o %d %d\n", name, e.Mode, e.Size, e.MTime.UnixNano())
	})
	return savedState{Nodes: r.archive.tree.Len(), Sum: h.Sum64()}
}

// SaveState describes the archive.
func (r *Raw) SaveState() ([]byte, error) { return json.Marshal(r.sum()) }

// RestoreState checks that the archive is that of the predecessor.
func (r *Raw) RestoreState(b []byte) error {
	var s savedState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("state of an archive: %w", err)
	}
	if s != r.sum() {
		return errors.New("state of an archive: the archive has changed since")
	}
	return nil
}

// String names the file system.
func (r *Raw) String() string { return "archive" }

// Lookup finds a name.
func (r *Raw) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	out.SetEntryTimeout(forever)
	number, n, st := r.node(h.NodeId)
	if st != fuse.OK {
		return st
	}
	switch name {
	case ".":
	case "..":
		number = n.parent
	default:
		i, ok := n.children[name]
		if !ok {
			return fuse.OK // NodeId 0: the kernel may keep that there is none
		}
		number = i
	}
	r.entry(number, out)
	return fuse.OK
}

func (r *Raw) entry(number int32, out *fuse.EntryOut) {
	out.NodeId, out.Generation = uint64(number)+1, 1
	attr(number, &r.archive.tree.nodes[number], &out.Attr)
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
}

// Forget does nothing: ids stand for themselves.
func (r *Raw) Forget(uint64, uint64) {}

// GetAttr is stat(2).
func (r *Raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	number, n, st := r.node(in.NodeId)
	if st == fuse.OK {
		attr(number, n, &out.Attr)
		out.SetTimeout(forever)
	}
	return st
}

// Readlink reads a symbolic link.
func (r *Raw) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	_, n, st := r.node(h.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	return []byte(n.Target), fuse.OK
}

// GetXAttr reads an extended attribute.
func (r *Raw) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	_, n, st := r.node(h.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	size, errno := n.getxattr(name, dest)
	return size, fuse.Status(errno)
}

// ListXAttr lists extended attributes.
func (r *Raw) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	_, n, st := r.node(h.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	size, errno := n.listxattr(dest)
	return size, fuse.Status(errno)
}

// Open says that files need no opening.
func (r *Raw) Open(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	return fuse.ENOSYS
}

// Read reads a file. A member that cannot be read is found out here.
func (r *Raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	number, n, st := r.node(in.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	if n.Mode&typeMask == TypeDir || in.Offset >= uint64(n.Size) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	m, errno := r.archive.openMember(number)
	if errno != fs.OK {
		return nil, fuse.Status(errno)
	}
	defer r.archive.release(m)
	buf = buf[:min(len(buf), int(in.Size))]
	size, errno := m.read(buf, int64(in.Offset), n.Size)
	return fuse.ReadResultData(buf[:size]), fuse.Status(errno)
}

// OpenDir says that directories need no opening.
func (r *Raw) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// ReadDir lists a directory. The offset of an entry is its position.
func (r *Raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(e fuse.DirEntry, _ int32) bool { return list.AddDirEntry(e) })
}

// ReadDirPlus lists a directory with the attributes of what is in it.
func (r *Raw) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, list *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(e fuse.DirEntry, number int32) bool {
		out := list.AddDirLookupEntry(e)
		if out != nil && e.Off > 2 {
			r.entry(number, out)
		}
		return out != nil
	})
}

func (r *Raw) list(in *fuse.ReadIn, add func(e fuse.DirEntry, number int32) bool) fuse.Status {
	number, n, st := r.node(in.NodeId)
	if st != fuse.OK {
		return st
	}
	for at := in.Offset; at < uint64(len(n.names))+2; at++ {
		name, k := ".", number
		switch {
		case at == 1:
			name, k = "..", n.parent
		case at > 1:
			name = n.names[at-2]
			k = n.children[name]
		}
		e := fuse.DirEntry{Name: name, Mode: r.archive.tree.nodes[k].Mode & typeMask, Ino: uint64(k) + 1, Off: at + 1}
		if !add(e, k) {
			break
		}
	}
	return fuse.OK
}

// StatFs gives the size of the archive.
func (r *Raw) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r.archive.statfs(out)
	return fuse.OK
}

// openMember opens the contents of a node, to be ended by release.
func (a *FS) openMember(number int32) (*member, syscall.Errno) {
	m, err := a.acquire(number)
	switch {
	case err == nil:
		return m, fs.OK
	case errors.Is(err, ErrEncrypted):
		return nil, syscall.EACCES
	case errors.Is(err, ErrUnsupported):
		return nil, syscall.EOPNOTSUPP
	}
	log.Printf("archive: open inode %d: %v", number, err)
	return nil, syscall.EIO
}

// read reads from a file of size bytes. A member that has fewer than its
// archive says is an error, not zeros.
func (m *member) read(dest []byte, off, size int64) (int, syscall.Errno) {
	if off < 0 || off >= size {
		return 0, fs.OK
	}
	dest = dest[:min(int64(len(dest)), size-off)]
	n, err := m.content.ReadAt(dest, off)
	if n < len(dest) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		log.Printf("archive: read inode %d at %d: %v", m.node, off, err)
		return 0, syscall.EIO
	}
	return n, fs.OK
}

// What would change the archive is refused.

func (r *Raw) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }

func (r *Raw) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }

func (r *Raw) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return fuse.EROFS
}

func (r *Raw) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }
