// Hello mounts a file system in which every name is a file that greets it:
//
//	hello /mnt &
//	cat /mnt/world
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"syscall"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// root is the directory.
type root struct{ fs.Inode }

// Lookup makes the file of a name.
func (r *root) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	file := &fs.MemRegularFile{Data: []byte(greeting(name))}
	out.Size = uint64(len(file.Data))
	return r.NewInode(ctx, file, fs.StableAttr{Mode: syscall.S_IFREG}), 0
}

func greeting(name string) string { return fmt.Sprintf("Hello, %s!\n", name) }

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: hello DIR")
	}
	server, err := fs.Mount(os.Args[1], &root{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	server.Wait()
}
