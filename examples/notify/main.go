// Notify mounts a file with the time of day, which the kernel may cache, and
// tells the kernel each time it changes:
//
//	notify /mnt &
//	cat /mnt/clock
package main

import (
	"context"
	"log"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// clock is a file whose content changes by itself.
type clock struct {
	fs.Inode
	mu      sync.Mutex
	content []byte
	reads   int
}

// Open lets the kernel keep what it has read.
func (c *clock) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read gives the content; it is only called for what the kernel has not kept.
func (c *clock) Read(ctx context.Context, f fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	n := copy(dest, c.content[min(off, int64(len(c.content))):])
	return fuse.ReadResultData(dest[:n]), 0
}

// Getattr gives the size.
func (c *clock) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Size = uint64(len(c.content))
	return 0
}

// set changes the content. The notification is sent when no lock is held that
// a method takes: the kernel may be waiting for one of those before it
// accepts it.
func (c *clock) set(content string) {
	c.mu.Lock()
	c.content = []byte(content)
	c.mu.Unlock()
	if errno := c.NotifyContent(0, 0); errno != 0 && errno != syscall.ENOENT {
		log.Print("notify: ", errno)
	}
}

func mount(dir string, c *clock) (*fuse.Server, error) {
	root := &fs.Inode{}
	hour := time.Hour
	return fs.Mount(dir, root, &fs.Options{
		EntryTimeout: &hour,
		AttrTimeout:  &hour,
		OnAdd: func(ctx context.Context) {
			root.AddChild("clock", root.NewPersistentInode(ctx, c, fs.StableAttr{}), false)
		},
	})
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: notify DIR")
	}
	c := &clock{}
	server, err := mount(os.Args[1], c)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for now := range time.Tick(time.Second) {
			c.set(now.Format(time.RFC3339) + "\n")
		}
	}()
	server.Wait()
}
