// Package zipfs shows a zip archive as a read-only file system, without
// unpacking it: a stored member is read in place, a deflated (or zstd) one
// through points that let a read start near where it wants to be (package
// storage/codec/seek).
//
//	z, err := zipfs.Open("source.zip")
//	…
//	defer z.Close()
//	server, err := fs.Mount(dir, z.Root(), nil)
//
// The archive is hostile: names that leave the root, overlapping members,
// sizes that lie and the like are left out and listed by Warnings. Encrypted
// members are shown, and opening one gives EACCES.
//
// The format is PKWARE's APPNOTE.TXT 6.3; the directory is read by the
// standard library's archive/zip, zip64 included.
package zipfs

import (
	"archive/zip"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/internal/archive"
	"github.com/sluicefs/sluice/storage/codec/seek"
)

// Archive is an open zip. It may be mounted any number of times.
type Archive struct {
	*archive.FS
	src     io.ReaderAt
	members []member
}

// member is where a file's bytes are.
type member struct {
	offset     int64 // of the stored bytes
	stored     int64
	check      seek.Check
	method     uint16
	encrypted  bool
	overlapped bool
}

// methodZstd is number 93 of APPNOTE 4.4.5.
const methodZstd = 93

// Open opens the zip file name.
func Open(name string) (*Archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	a, err := New(f, st.Size(), st.ModTime(), f.Close)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

// New opens the zip of size bytes in src; mtime is given to directories that
// the zip does not list. Close calls close, if it is not nil.
func New(src io.ReaderAt, size int64, mtime time.Time, close func() error) (*Archive, error) {
	z, err := zip.NewReader(src, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, err
	}
	a := &Archive{src: src, members: make([]member, len(z.File))}
	b := archive.NewBuilder(mtime)
	usable := make([]bool, len(z.File))
	for i, f := range z.File {
		if a.members[i], err = place(f, size); err != nil {
			b.Warn(f.Name, err.Error())
			continue
		}
		usable[i] = true
	}
	markOverlaps(a.members)
	for i, f := range z.File {
		switch {
		case !usable[i]:
		case a.members[i].overlapped:
			b.Warn(f.Name, "its bytes overlap another member's")
		default:
			a.add(b, i, f)
		}
	}
	if close == nil {
		close = func() error { return nil }
	}
	a.FS = archive.New(b.Tree(), size, a.open, close)
	return a, nil
}

var _ fs.InodeEmbedder = (*archive.Node)(nil)

// place finds a member's bytes and refuses sizes that cannot be.
func place(f *zip.File, size int64) (member, error) {
	m := member{
		method:    f.Method,
		encrypted: f.Flags&1 != 0,
		check:     seek.Check{Size: int64(f.UncompressedSize64), CRC32: f.CRC32},
		stored:    int64(f.CompressedSize64),
	}
	offset, err := f.DataOffset()
	if err != nil {
		return m, err
	}
	m.offset = offset
	// No deflate stream grows more than 1032-fold (RFC 1951's longest match
	// takes two bits at least).
	const maxRatio = 1032
	switch {
	case m.stored < 0 || m.check.Size < 0 || offset < 0 || offset > size || m.stored > size-offset:
		return m, errors.New("its bytes lie beyond the archive's end")
	case m.method == zip.Store && !m.encrypted && m.stored != m.check.Size:
		return m, fmt.Errorf("stored as %d bytes that are said to be %d", m.stored, m.check.Size)
	case m.method == zip.Deflate && m.check.Size/maxRatio > m.stored:
		return m, fmt.Errorf("%d bytes cannot unpack to %d", m.stored, m.check.Size)
	}
	return m, nil
}

// markOverlaps marks the members whose stored bytes another has before.
func markOverlaps(members []member) {
	order := make([]int, 0, len(members))
	for i := range members {
		if members[i].stored > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(members[i].offset, members[j].offset) })
	end := int64(0)
	for _, i := range order {
		m := &members[i]
		if m.offset < end {
			m.overlapped = true
			continue
		}
		end = m.offset + m.stored
	}
}

// add puts a member into the tree.
func (a *Archive) add(b *archive.Builder, i int, f *zip.File) {
	e := archive.Entry{Mode: mode(f), Size: a.members[i].check.Size, MTime: f.Modified, Index: i}
	e.UID, e.GID = owner(f.Extra)
	const typeMask = 0o170000
	switch e.Mode & typeMask {
	case archive.TypeRegular, archive.TypeDir:
	case archive.TypeSymlink:
		target, err := a.target(i)
		if err != nil {
			b.Warn(f.Name, fmt.Sprintf("symbolic link: %v", err))
			return
		}
		e.Target = target
	default:
		b.Warn(f.Name, fmt.Sprintf("type %#o is none that a zip has", e.Mode&typeMask))
		return
	}
	b.Add(f.Name, e)
}

// target reads the target of a symbolic link, which is its contents.
func (a *Archive) target(i int) (string, error) {
	const longest = 4095
	if n := a.members[i].check.Size; n > longest {
		return "", fmt.Errorf("target of %d bytes", n)
	}
	c, err := a.open(i)
	if err != nil {
		return "", err
	}
	defer c.Close()
	p := make([]byte, a.members[i].check.Size)
	if n, err := c.ReadAt(p, 0); n < len(p) {
		return "", err
	}
	return string(p), nil
}

// mode is a member's st_mode: its creator's if that was a Unix, else what
// unzip makes of DOS attributes.
func mode(f *zip.File) uint32 {
	const (
		creatorUnix  = 3
		creatorMacOS = 19
		dosReadOnly  = 1
	)
	if c := f.CreatorVersion >> 8; c == creatorUnix || c == creatorMacOS {
		if m := f.ExternalAttrs >> 16; m&0o170000 != 0 {
			return m
		}
	}
	switch {
	case strings.HasSuffix(f.Name, "/"):
		return archive.TypeDir | 0o755
	case f.ExternalAttrs&dosReadOnly != 0:
		return archive.TypeRegular | 0o444
	}
	return archive.TypeRegular | 0o644
}

// owner reads Info-ZIP's third Unix extra field: version 1, then the sizes
// and values of the user's and the group's number.
func owner(extra []byte) (uid, gid uint32) {
	const fieldUnix = 0x7875
	for len(extra) >= 4 {
		id, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		extra = extra[4:]
		if n > len(extra) {
			return 0, 0
		}
		field := extra[:n]
		extra = extra[n:]
		if id != fieldUnix || n < 1 || field[0] != 1 {
			continue
		}
		uid, field = number(field[1:])
		gid, _ = number(field)
		return uid, gid
	}
	return 0, 0
}

// number reads a little-endian number behind a byte with its size.
func number(b []byte) (v uint32, rest []byte) {
	if len(b) == 0 || int(b[0]) > len(b)-1 || b[0] > 4 {
		return 0, nil
	}
	n := int(b[0])
	for i := range n {
		v |= uint32(b[1+i]) << (8 * i)
	}
	return v, b[1+n:]
}

// open gives a member's contents.
func (a *Archive) open(i int) (archive.Content, error) {
	m := &a.members[i]
	if m.encrypted {
		return nil, archive.ErrEncrypted
	}
	src := io.NewSectionReader(a.src, m.offset, m.stored)
	switch m.method {
	case zip.Store:
		return plain{src}, nil
	case zip.Deflate:
		return seek.New(src, m.stored, seek.Deflate, nil, seek.Options{Check: &m.check})
	case methodZstd:
		return seek.New(src, m.stored, seek.Zstd, nil, seek.Options{})
	}
	return nil, fmt.Errorf("%w: compression method %d", archive.ErrUnsupported, m.method)
}

// plain is a stored member.
type plain struct{ io.ReaderAt }

func (plain) Close() error { return nil }
