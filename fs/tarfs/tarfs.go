// Package tarfs shows a tar archive, plain or compressed with gzip or zstd,
// as a read-only file system without unpacking it.
//
//	t, err := tarfs.Open("root.tar.gz", tarfs.Options{CacheDir: dir})
//	…
//	defer t.Close()
//	server, err := fs.Mount(mountPoint, t.Root(), nil)
//
// A tar has no directory, so it is read once from end to end to make one; of
// a compressed tar that pass also learns the points from which decompression
// can start (package storage/codec/seek). Both are kept in a file in
// Options.CacheDir, so that the next Open of the same archive is quick.
//
// The archive is hostile: names that leave the root, links to nowhere and
// the like are left out and listed by Warnings. Formats are what the
// standard library's archive/tar reads: ustar, PAX, GNU, sparse files among
// them.
package tarfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sluicefs/sluice/fs/internal/archive"
	"github.com/sluicefs/sluice/storage/codec/seek"
)

// Options say where the index is kept.
type Options struct {
	// CacheDir is a directory for indexes; it is made if need be. Empty: no
	// index is kept.
	CacheDir string
}

// Archive is an open tar. It may be mounted any number of times.
type Archive struct {
	*archive.FS
	contents io.ReaderAt // of the tar itself, decompressed
	members  []member
}

// Open opens the tar file name.
func Open(name string, opts Options) (*Archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a, err := open(f, opts)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

func open(f *os.File, opts Options) (*Archive, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	format, err := detect(f)
	if err != nil {
		return nil, err
	}
	cached := cacheFile(opts.CacheDir, f.Name(), st)
	saved := load(cached, format)

	a := &Archive{contents: io.NewSectionReader(f, 0, st.Size())}
	closers := []func() error{f.Close}
	var z *seek.ReaderAt
	if format != 0 {
		var index *seek.Index
		if saved != nil {
			index = saved.Seek
		}
		if z, err = seek.New(f, st.Size(), format, index, seek.Options{Points: 1024, Cache: 32 << 20}); err != nil {
			return nil, err
		}
		a.contents = z
		closers = append(closers, z.Close)
	}
	if saved != nil {
		a.members = saved.Members
	} else {
		if a.members, err = scan(a.contents, st.Size(), z); err != nil {
			return nil, err
		}
		fresh := &index{Members: a.members}
		if z != nil {
			fresh.Seek = z.Index()
		}
		if err := fresh.save(cached); err != nil {
			return nil, fmt.Errorf("keep the index: %w", err)
		}
	}
	tree := build(a.members, st.ModTime())
	a.FS = archive.New(tree, st.Size(), a.open, func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	})
	return a, nil
}

// detect tells by its first bytes how a file is compressed; 0 is not at all.
func detect(f io.ReaderAt) (seek.Format, error) {
	var magic [6]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	is := func(s string) bool { return bytes.HasPrefix(magic[:n], []byte(s)) }
	switch {
	case n == 0:
		return 0, errors.New("empty file, not a tar")
	case is("\x1f\x8b"):
		return seek.Gzip, nil
	case is("\x28\xb5\x2f\xfd"), n >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte("\x2a\x4d\x18")):
		return seek.Zstd, nil
	case is("\xfd7zXZ\x00"):
		return 0, errors.New("xz is not supported: recompress it as gzip or zstd")
	case is("BZh"):
		return 0, errors.New("bzip2 is not supported: recompress it as gzip or zstd")
	}
	return 0, nil
}
