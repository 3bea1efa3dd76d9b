// Locks mounts a file whose byte-range locks are kept by the file system
// itself, as one on a network would keep them:
//
//	locks /mnt &
//	flock /mnt/file sleep 10
package main

import (
	"context"
	"log"
	"os"
	"sync"
	"syscall"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

// file keeps its locks in a list.
type file struct {
	fs.MemRegularFile
	mu      sync.Mutex
	held    []held
	changed chan struct{} // closed at each change
}

type held struct {
	owner uint64
	fuse.FileLock
}

// inTheWay returns a lock of somebody else that lk must wait for; mu is held.
func (f *file) inTheWay(owner uint64, lk *fuse.FileLock) *held {
	for i := range f.held {
		h := &f.held[i]
		if h.owner != owner && h.Start <= lk.End && lk.Start <= h.End &&
			(h.Typ == syscall.F_WRLCK || lk.Typ == syscall.F_WRLCK) {
			return h
		}
	}
	return nil
}

// Getlk tells which lock is in the way.
func (f *file) Getlk(ctx context.Context, fh fs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32, out *fuse.FileLock) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.inTheWay(owner, lk); h != nil {
		*out = h.FileLock
		return 0
	}
	*out = *lk
	out.Typ = syscall.F_UNLCK
	return 0
}

// Setlk takes a lock, or gives one back, at once.
func (f *file) Setlk(ctx context.Context, fh fs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(owner, lk)
}

func (f *file) set(owner uint64, lk *fuse.FileLock) syscall.Errno {
	if lk.Typ != syscall.F_UNLCK && f.inTheWay(owner, lk) != nil {
		return syscall.EAGAIN
	}
	var rest []held
	for _, h := range f.held {
		if h.owner != owner || h.End < lk.Start || lk.End < h.Start {
			rest = append(rest, h)
			continue
		}
		if h.Start < lk.Start { // what sticks out in front and behind stays
			front := h
			front.End = lk.Start - 1
			rest = append(rest, front)
		}
		if h.End > lk.End {
			behind := h
			behind.Start = lk.End + 1
			rest = append(rest, behind)
		}
	}
	if lk.Typ != syscall.F_UNLCK {
		rest = append(rest, held{owner, *lk})
	}
	f.held = rest
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
	return 0
}

// Setlkw waits for a lock until the caller is interrupted.
func (f *file) Setlkw(ctx context.Context, fh fs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	for {
		f.mu.Lock()
		errno := f.set(owner, lk)
		if errno != 0 && f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if errno == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return syscall.EINTR
		}
	}
}

func mount(dir string) (*fuse.Server, error) {
	root := &fs.Inode{}
	opts := &fs.Options{OnAdd: func(ctx context.Context) {
		root.AddChild("file", root.NewPersistentInode(ctx, &file{}, fs.StableAttr{}), false)
	}}
	opts.EnableLocks = true
	return fs.Mount(dir, root, opts)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: locks DIR")
	}
	server, err := mount(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server.Wait()
}
