// Dynamic mounts the natural numbers: the directory of n holds its divisors,
// which are made when somebody looks.
//
//	dynamic /mnt &
//	ls /mnt/12/6
package main

import (
	"context"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
)

const biggest = 10000

// number is the directory of its divisors; 0, the root, is divided by all.
type number struct {
	fs.Inode
	n int
}

func (d *number) divides(m int) bool { return d.n == 0 || d.n%m == 0 && m < d.n }

// Lookup finds a divisor. What is not one stays unknown to the kernel for a
// minute: the answer has a timeout of its own.
func (d *number) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	m, err := strconv.Atoi(name)
	if err != nil || m < 1 || m > biggest || strconv.Itoa(m) != name || !d.divides(m) {
		out.SetEntryTimeout(time.Minute)
		return nil, syscall.ENOENT
	}
	return d.NewInode(ctx, &number{n: m}, fs.StableAttr{Mode: syscall.S_IFDIR}), 0
}

// Readdir lists the divisors.
func (d *number) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	for m := 1; m <= biggest && (d.n == 0 || m < d.n); m++ {
		if d.divides(m) {
			list = append(list, fuse.DirEntry{Name: strconv.Itoa(m), Mode: syscall.S_IFDIR})
		}
	}
	return fs.NewListDirStream(list), 0
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: dynamic DIR")
	}
	server, err := fs.Mount(os.Args[1], &number{}, options())
	if err != nil {
		log.Fatal(err)
	}
	server.Wait()
}

// options let the kernel keep names and attributes for an hour: divisors
// don't change.
func options() *fs.Options {
	hour := time.Hour
	return &fs.Options{EntryTimeout: &hour, AttrTimeout: &hour}
}
