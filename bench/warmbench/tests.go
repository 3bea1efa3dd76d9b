package main

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// test is one thing that is measured; big is the path of the largest file in
// the tree.
type test struct {
	name string
	cold bool // the kernel's caches are dropped before
	run  func(root, big string) error
}

var tests = []test{
	{name: "find", run: func(root, _ string) error { _, err := find(root); return err }},
	{name: "cat of all", run: func(root, _ string) error { _, err := readAll(root); return err }},
	{name: "20,000 random reads", run: randomReads},
	{name: "20,000 random pages of a mapping", run: randomPages},
	{name: "find, caches dropped", cold: true, run: func(root, _ string) error { _, err := find(root); return err }},
	{name: "cat of all, caches dropped", cold: true, run: func(root, _ string) error { _, err := readAll(root); return err }},
	{name: "2,000 random reads, caches dropped", cold: true, run: func(root, big string) error { return randomly(root, big, 2000) }},
}

// find lists all directories and asks for the attributes of every entry.
func find(root string) (entries int, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			_, err = d.Info()
			entries++
		}
		return err
	})
	return entries, err
}

// readAll reads all regular files.
func readAll(root string) (bytes int64, err error) {
	buf := make([]byte, 1<<20)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for {
			n, err := unix.Read(fd, buf)
			if n <= 0 || err != nil {
				return err
			}
			bytes += int64(n)
		}
	})
	return bytes, err
}

// largest returns the path of the largest file below root, relative to it.
func largest(root string) (path string, err error) {
	most := int64(0)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Size() > most {
			most = fi.Size()
			path, err = filepath.Rel(root, p)
		}
		return err
	})
	if err == nil && most < 1<<20 {
		err = errors.New("the source has no file of 1 MiB")
	}
	return path, err
}

func randomReads(root, big string) error { return randomly(root, big, 20000) }

// randomly reads 4 KiB at n random places of the largest file, the same for
// all.
func randomly(root, big string, n int) error {
	f, err := os.Open(filepath.Join(root, big))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var b [4096]byte
	for range n {
		if _, err := f.ReadAt(b[:], rnd.Int64N(fi.Size()/4096)*4096); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// sink keeps the compiler from leaving reads out.
var sink byte

// randomPages maps the largest file and touches random pages of it.
func randomPages(root, big string) error {
	f, err := os.Open(filepath.Join(root, big))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		sink += m[rnd.Int64N(int64(len(m)))]
	}
	return unix.Munmap(m)
}
