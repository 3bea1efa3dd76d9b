package main

import (
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// fixedFS shows a directory as it was when the server started: files that
// never change, as those of an image. The kernel may keep all it has seen, and
// opens files and directories without asking.
type fixedFS struct {
	fuse.RawFileSystem
	nodes []fixedNode // by id - 1
}

type fixedNode struct {
	attr     fuse.Attr
	fd       int            // of a file
	children map[string]int // of a directory: index of the node
	names    []string       // sorted
}

func newFixedFS(back string, dirs ...string) (*fixedFS, error) {
	f := &fixedFS{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	if err := f.add(back, false); err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if err := f.link(0, d, filepath.Join(back, d)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// add makes the node of a file or, with what is in it, of a directory.
func (f *fixedFS) add(path string, whole bool) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	at := len(f.nodes)
	n := fixedNode{fd: -1}
	n.attr.FromStat(&st)
	n.attr.Ino = uint64(at + 1)
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.children = map[string]int{}
	} else if st.Size > 0 {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		n.fd = fd
	}
	f.nodes = append(f.nodes, n)
	if n.children == nil || !whole {
		return nil
	}
	list, err := os.ReadDir(path)
	for _, e := range list {
		if err == nil {
			err = f.link(at, e.Name(), filepath.Join(path, e.Name()))
		}
	}
	return err
}

func (f *fixedFS) link(parent int, name, path string) error {
	n := &f.nodes[parent]
	n.children[name] = len(f.nodes)
	n.names = append(n.names, name)
	sort.Strings(n.names)
	return f.add(path, true)
}

func (f *fixedFS) node(id uint64) *fixedNode {
	if id == 0 || id > uint64(len(f.nodes)) {
		return nil
	}
	return &f.nodes[id-1]
}

func (f *fixedFS) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n := f.node(header.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	at, ok := n.children[name]
	if !ok {
		return fuse.ENOENT
	}
	f.entry(at, out)
	return fuse.OK
}

func (f *fixedFS) entry(at int, out *fuse.EntryOut) {
	out.NodeId, out.Attr = uint64(at+1), f.nodes[at].attr
	out.SetEntryTimeout(time.Hour)
	out.SetAttrTimeout(time.Hour)
}

func (f *fixedFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	out.Attr = n.attr
	out.SetTimeout(time.Hour)
	return fuse.OK
}

// Open and OpenDir: the kernel does without from now on.
func (f *fixedFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

func (f *fixedFS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// Flush is not needed where nothing is written.
func (f *fixedFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

func (f *fixedFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n := f.node(in.NodeId)
	if n == nil || n.children != nil {
		return nil, fuse.EBADF
	}
	if n.fd < 0 {
		return nil, fuse.OK
	}
	return fuse.ReadResultFd(uintptr(n.fd), int64(in.Offset), len(buf)), fuse.OK
}

func (f *fixedFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(at int, e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		f.entry(at, entry)
		return true
	})
}

func (f *fixedFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(_ int, e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

func (f *fixedFS) list(in *fuse.ReadIn, add func(at int, e fuse.DirEntry) bool) fuse.Status {
	n := f.node(in.NodeId)
	if n == nil || n.children == nil {
		return fuse.ENOTDIR
	}
	for i := in.Offset; i < uint64(len(n.names)); i++ {
		at := n.children[n.names[i]]
		if !add(at, fuse.DirEntry{Name: n.names[i], Mode: f.nodes[at].attr.Mode, Ino: uint64(at + 1), Off: i + 1}) {
			break
		}
	}
	return fuse.OK
}
