// Static mounts a tree that is made once, before the first request:
//
//	static /mnt &
//	find /mnt
package main

import (
	"context"
	"log"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/sluicefs/sluice/fs"
)

// root makes the tree when it becomes part of a file system.
type root struct {
	fs.Inode
	files map[string]string // contents by path
}

// OnAdd adds all files, and the directories that they are in.
func (r *root) OnAdd(ctx context.Context) {
	for name, content := range r.files {
		dir := &r.Inode
		for _, part := range strings.Split(path.Dir(name), "/") {
			if part == "." {
				continue
			}
			next := dir.GetChild(part)
			if next == nil {
				next = dir.NewPersistentInode(ctx, &fs.Inode{}, fs.StableAttr{Mode: syscall.S_IFDIR})
				dir.AddChild(part, next, false)
			}
			dir = next
		}
		file := &fs.MemRegularFile{Data: []byte(content)}
		dir.AddChild(path.Base(name), dir.NewPersistentInode(ctx, file, fs.StableAttr{}), false)
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: static DIR")
	}
	r := &root{files: map[string]string{"README": "read me\n", "a/b/c": "deep\n"}}
	server, err := fs.Mount(os.Args[1], r, nil)
	if err != nil {
		log.Fatal(err)
	}
	server.Wait()
}
