package vfs

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// leafFS is a file system of a file "name" (node 2) and a directory "sub"
// (node 3) with a file "deep" (node 4), all with the same content. It counts
// what the kernel holds.
type leafFS struct {
	fuse.RawFileSystem
	content string
	wide    uint64 // added to all node ids but the root's
	server  *fuse.Server
	refs    atomic.Int64
	opens   atomic.Int64
	ended   atomic.Int32
	gate    chan struct{} // if not nil, Read waits for it

	mu      sync.Mutex
	renamed []uint64
}

func newLeaf(content string) *leafFS {
	return &leafFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), content: content}
}

func (l *leafFS) Init(s *fuse.Server) { l.server = s }
func (l *leafFS) OnUnmount()          { l.ended.Add(1) }

func (l *leafFS) attr(node uint64, a *fuse.Attr) fuse.Status {
	switch node {
	case 1, 3 + l.wide:
		*a = fuse.Attr{Ino: node, Mode: fuse.S_IFDIR | 0o755, Nlink: 2}
	case 2 + l.wide, 4 + l.wide:
		*a = fuse.Attr{Ino: node, Mode: fuse.S_IFREG | 0o644, Nlink: 1, Size: uint64(len(l.content))}
	default:
		return fuse.Status(syscall.ESTALE)
	}
	return fuse.OK
}

func (l *leafFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(time.Hour)
	return l.attr(in.NodeId, &out.Attr)
}

func (l *leafFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case h.NodeId == 1 && name == "name":
		out.NodeId = 2 + l.wide
	case h.NodeId == 1 && name == "sub":
		out.NodeId = 3 + l.wide
	case h.NodeId == 3+l.wide && name == "deep":
		out.NodeId = 4 + l.wide
	default:
		return fuse.ENOENT
	}
	l.refs.Add(1)
	out.SetEntryTimeout(time.Hour)
	out.SetAttrTimeout(time.Hour)
	return l.attr(out.NodeId, &out.Attr)
}

func (l *leafFS) Forget(node, n uint64) { l.refs.Add(-int64(n)) }

func (l *leafFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	l.opens.Add(1)
	return fuse.OK
}

func (l *leafFS) Release(<-chan struct{}, *fuse.ReleaseIn) { l.opens.Add(-1) }

func (l *leafFS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	l.opens.Add(1)
	out.Fh = 77
	return fuse.OK
}

func (l *leafFS) ReleaseDir(in *fuse.ReleaseIn) {
	if in.Fh == 77 {
		l.opens.Add(-1)
	}
}

func (l *leafFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if l.gate != nil {
		<-l.gate
	}
	rest := l.content[min(in.Offset, uint64(len(l.content))):]
	return fuse.ReadResultData([]byte(rest[:min(len(rest), int(in.Size))])), fuse.OK
}

func (l *leafFS) entries(node uint64) []fuse.DirEntry {
	if node == 1 {
		return []fuse.DirEntry{{Name: "name", Ino: 2 + l.wide, Mode: fuse.S_IFREG}, {Name: "sub", Ino: 3 + l.wide, Mode: fuse.S_IFDIR}}
	}
	return []fuse.DirEntry{{Name: "deep", Ino: 4 + l.wide, Mode: fuse.S_IFREG}}
}

func (l *leafFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Fh != 77 {
		return fuse.EBADF
	}
	es := l.entries(in.NodeId)
	for _, e := range es[min(in.Offset, uint64(len(es))):] {
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

func (l *leafFS) ReadDirPlus(c <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Fh != 77 {
		return fuse.EBADF
	}
	es := l.entries(in.NodeId)
	for _, e := range es[min(in.Offset, uint64(len(es))):] {
		o := out.AddDirLookupEntry(e)
		if o == nil {
			break
		}
		h := in.InHeader
		l.Lookup(c, &h, e.Name, o)
	}
	return fuse.OK
}

func (l *leafFS) Rename(_ <-chan struct{}, in *fuse.RenameIn, _, _ string) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renamed = append(l.renamed, in.NodeId, in.Newdir)
	return fuse.OK
}

func (l *leafFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Blocks, out.Bsize, out.Frsize = uint64(len(l.content)), 512, 512
	return fuse.OK
}
