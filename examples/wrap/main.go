// Wrap mounts a directory of this machine such that nothing in it can be
// removed:
//
//	wrap DIR MOUNTPOINT
package main

import (
	"context"
	"log"
	"os"
	"syscall"

	"github.com/sluicefs/sluice/fs"
)

// keeper is a node of a loopback in which nothing can be removed.
type keeper struct {
	*fs.LoopbackNode
}

// Unlink refuses.
func (k *keeper) Unlink(ctx context.Context, name string) syscall.Errno { return syscall.EPERM }

// Rmdir refuses.
func (k *keeper) Rmdir(ctx context.Context, name string) syscall.Errno { return syscall.EPERM }

// WrapChild makes keepers of all nodes below.
func (k *keeper) WrapChild(ctx context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &keeper{ops.(*fs.LoopbackNode)}
}

// newRoot returns the root of a keeper of dir.
func newRoot(dir string) (fs.InodeEmbedder, error) {
	root, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		return nil, err
	}
	return &keeper{root.(*fs.LoopbackNode)}, nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: wrap DIR MOUNTPOINT")
	}
	root, err := newRoot(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server, err := fs.Mount(os.Args[2], root, nil)
	if err != nil {
		log.Fatal(err)
	}
	server.Wait()
}
