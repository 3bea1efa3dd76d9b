package unpack

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/sluicefs/sluice/image"
)

// Names of whiteouts in OCI layers.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
)

// Tar writes the files of the image to w: parents before what they hold, in
// the order of the image, without the root. Sockets, which a tar can not
// hold, are left out and listed in the result.
func Tar(ctx context.Context, t image.Tree, w io.Writer, o Options) (*Result, error) {
	u, err := newUnpacker(ctx, t, o)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(w, 1<<20)
	a := &archiver{u, tar.NewWriter(buf)}
	if err := a.children("", t.Root(), 0); err != nil {
		return nil, err
	}
	if err := a.w.Close(); err != nil {
		return nil, err
	}
	return &u.result, buf.Flush()
}

type archiver struct {
	*unpacker
	w *tar.Writer
}

// children writes what is in the directory nid, each directory with all that
// it holds before the next entry.
func (a *archiver) children(dir string, nid uint64, depth int) error {
	children, err := a.list(dir, nid, depth)
	if err != nil {
		return err
	}
	for _, c := range children {
		name := path.Join(dir, c.name)
		isDir, err := a.entry(name, c.nid)
		if err != nil {
			return wrap(name, err)
		}
		if isDir {
			if err := a.children(name, c.nid, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

var tarTypes = map[uint32]byte{
	0o010000: tar.TypeFifo, 0o020000: tar.TypeChar, image.TypeDirectory: tar.TypeDir,
	0o060000: tar.TypeBlock, image.TypeRegular: tar.TypeReg, image.TypeSymlink: tar.TypeSymlink,
}

// entry writes the entry of one inode, and reports whether it is a directory.
func (a *archiver) entry(name string, nid uint64) (isDir bool, err error) {
	var in image.Inode
	if err := a.t.Stat(nid, &in); err != nil {
		return false, err
	}
	typ, ok := tarTypes[in.Mode&image.TypeMask]
	if !ok {
		a.skip(name, "a tar can not hold a socket")
		return false, nil
	}
	if a.o.Whiteouts && typ == tar.TypeChar && in.Rdev == 0 {
		return false, a.whiteout(path.Join(path.Dir(name), whiteoutPrefix+path.Base(name)))
	}
	h := &tar.Header{
		Name: name, Typeflag: typ, Mode: int64(in.Mode & 0o7777), Uid: int(in.UID), Gid: int(in.GID),
		ModTime: time.Unix(in.MTime, int64(in.MTimeNsec)),
	}
	if in.MTimeNsec != 0 {
		h.Format = tar.FormatPAX
	}
	a.result.Entries++
	if first, ok := a.linked(name, &in); ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return false, a.w.WriteHeader(h)
	}
	if err := a.fill(h, &in); err != nil {
		return false, err
	}
	if typ == tar.TypeDir {
		return true, a.directory(h)
	}
	if err := a.w.WriteHeader(h); err != nil || typ != tar.TypeReg {
		return false, err
	}
	return false, a.pieces(&in, func(p []byte, n int64) error {
		if p == nil {
			_, err := io.CopyN(a.w, zeros{}, n)
			return err
		}
		_, err := a.w.Write(p)
		return err
	})
}

// directory writes the header of a directory, and the whiteout of one that
// hides what is below it.
func (a *archiver) directory(h *tar.Header) error {
	const record = "SCHILY.xattr." + opaqueXattr
	opaque := a.o.Whiteouts && h.PAXRecords[record] == "y"
	if opaque {
		delete(h.PAXRecords, record)
	}
	if err := a.w.WriteHeader(h); err != nil || !opaque {
		return err
	}
	return a.whiteout(path.Join(h.Name, opaqueName))
}

// fill sets in h what depends on the type, and the xattrs.
func (a *archiver) fill(h *tar.Header, in *image.Inode) error {
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeReg:
		h.Size = int64(in.Size)
	case tar.TypeSymlink:
		target, err := a.t.Readlink(in.NID)
		if err != nil {
			return err
		}
		h.Linkname = string(target)
	case tar.TypeChar, tar.TypeBlock:
		major, minor := split(in.Rdev)
		h.Devmajor, h.Devminor = int64(major), int64(minor)
	}
	xattrs, err := a.xattrs(in.NID)
	if err != nil || len(xattrs) == 0 {
		return err
	}
	h.PAXRecords = make(map[string]string, len(xattrs))
	for name, value := range xattrs {
		if strings.ContainsAny(name, "=\x00") {
			a.skip(h.Name, "a tar can not hold the attribute "+name)
			continue
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return nil
}

func (a *archiver) whiteout(name string) error {
	a.result.Entries++
	return a.w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(0, 0)})
}
