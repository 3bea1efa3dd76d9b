package fuse_test

import (
	"fmt"
	"log"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// greeter is a file system of one file, "hello", node 2.
type greeter struct {
	fuse.RawFileSystem
}

const greeting = "Hello, kernel.\n"

func (g *greeter) attr(node uint64, out *fuse.Attr) fuse.Status {
	switch node {
	case fuse.FUSE_ROOT_ID:
		*out = fuse.Attr{Ino: node, Mode: fuse.S_IFDIR | 0o755, Nlink: 2}
	case 2:
		*out = fuse.Attr{Ino: node, Mode: fuse.S_IFREG | 0o444, Nlink: 1, Size: uint64(len(greeting))}
	default:
		return fuse.ESTALE
	}
	return fuse.OK
}

func (g *greeter) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(time.Hour)
	return g.attr(in.NodeId, &out.Attr)
}

func (g *greeter) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId != fuse.FUSE_ROOT_ID || name != "hello" {
		return fuse.ENOENT
	}
	out.NodeId = 2
	out.SetEntryTimeout(time.Hour)
	out.SetAttrTimeout(time.Hour)
	return g.attr(2, &out.Attr)
}

func (g *greeter) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if in.Offset >= uint64(len(greeting)) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	data := []byte(greeting)[in.Offset:]
	return fuse.ReadResultData(data[:min(len(data), int(in.Size))]), fuse.OK
}

func (g *greeter) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset == 0 {
		out.AddDirEntry(fuse.DirEntry{Name: "hello", Ino: 2, Mode: fuse.S_IFREG})
	}
	return fuse.OK
}

// A file system at the raw level: numbers in, numbers out.
func ExampleNewServer() {
	server, err := fuse.NewServer(&greeter{fuse.NewDefaultRawFileSystem()}, "/mnt", &fuse.MountOptions{
		Name:               "greeter",
		DisableReadDirPlus: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		log.Fatal(err)
	}
	server.Wait() // until somebody unmounts it
}

// A directory listing is written into the bytes that the kernel gets.
func ExampleDirEntryList() {
	list := fuse.NewDirEntryList(make([]byte, 4096), 0)
	list.AddDirEntry(fuse.DirEntry{Name: "a", Ino: 10, Mode: fuse.S_IFREG})
	list.AddDirEntry(fuse.DirEntry{Name: "b", Ino: 11, Mode: fuse.S_IFDIR})
	entries, err := fuse.ParseDirEntries(list.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		fmt.Println(e.Name, e.Ino, "goes on at", e.Off)
	}
	// Output:
	// a 10 goes on at 1
	// b 11 goes on at 2
}
