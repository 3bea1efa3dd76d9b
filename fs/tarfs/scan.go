package tarfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluicefs/sluice/fs/internal/archive"
	"github.com/sluicefs/sluice/storage/codec/seek"
)

// maxMembers bounds the memory that a tar can take.
const maxMembers = 1 << 26

// member is what is kept of a tar header.
type member struct {
	Name, Target string
	Type         byte // as in the header
	Mode         uint32
	UID, GID     uint32
	Rdev         uint32
	Size         int64
	Seconds      int64 // of the modification time
	Nanoseconds  int64
	Xattrs       map[string]string
	Offset       int64 // of the data
	// A sparse file's data is not one range: it is read by the tar reader,
	// which has to start Skip members before it, at Start.
	Sparse bool
	Start  int64
	Skip   int
}

// maxSkip is how many sparse files in a row can be read; each is reached
// through the ones before it.
const maxSkip = 1000

// errCut says that the archive's end is missing.
var errCut = errors.New("the archive is cut short")

// scan reads all headers of the tar in contents, which has size bytes; z is
// what decompresses it, nil if nothing does.
func scan(contents io.ReaderAt, size int64, z *seek.ReaderAt) ([]member, error) {
	var r *tar.Reader
	var rest io.Reader = strings.NewReader("")
	var at func() int64
	if z == nil {
		// An io.Seeker: the reader passes over the data.
		s := io.NewSectionReader(contents, 0, size)
		r = tar.NewReader(s)
		at = func() int64 { pos, _ := s.Seek(0, io.SeekCurrent); return pos }
	} else {
		s := z.Scan()
		defer s.Close()
		c := &counter{r: s}
		r, rest = tar.NewReader(c), s
		at = func() int64 { return c.n }
	}
	var members []member
	start, skip := int64(0), 0 // how to get to the next header
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("after %d members: %w", len(members), err)
		}
		if len(members) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		m := convert(h)
		m.Offset, m.Start, m.Skip = at(), start, skip
		if z == nil && !m.Sparse && dataSize(h) > size-m.Offset {
			return nil, fmt.Errorf("%.200q: %w", h.Name, errCut)
		}
		if m.Sparse {
			skip++
		} else {
			start, skip = (m.Offset+dataSize(h)+511)&^511, 0
		}
		members = append(members, m)
	}
	if z == nil && size%512 != 0 {
		return nil, errCut
	}
	// What follows the end of the tar belongs to the checksum of a
	// compressed one.
	_, err := io.Copy(io.Discard, rest)
	return members, err
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// dataSize is how many bytes follow the header of a file that is not sparse.
func dataSize(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return 0
	}
	return h.Size
}

func convert(h *tar.Header) member {
	m := member{
		Name: h.Name, Target: h.Linkname, Type: h.Typeflag,
		Mode: uint32(h.Mode) & 0o7777, UID: number(h.Uid), GID: number(h.Gid),
		Size: h.Size, Seconds: h.ModTime.Unix(), Nanoseconds: int64(h.ModTime.Nanosecond()),
		Sparse: h.Typeflag == tar.TypeGNUSparse,
	}
	major, minor := uint32(h.Devmajor), uint32(h.Devminor)
	m.Rdev = minor&0xff | major<<8 | minor&^0xff<<12
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			m.Sparse = true
		}
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && len(name) <= 255 && len(value) <= 64<<10 {
			if m.Xattrs == nil {
				m.Xattrs = map[string]string{}
			}
			m.Xattrs[name] = value
		}
	}
	return m
}

// number is a user's or group's number; one that Linux cannot have becomes
// that of nobody.
func number(n int) uint32 {
	const nobody = 65534
	if n < 0 || n >= 1<<32-1 {
		return nobody
	}
	return uint32(n)
}

// build makes the tree.
func build(members []member, mtime time.Time) *archive.Tree {
	b := archive.NewBuilder(mtime)
	for i := range members {
		m := &members[i]
		e := archive.Entry{
			Mode: m.Mode, UID: m.UID, GID: m.GID, Size: m.Size,
			MTime: time.Unix(m.Seconds, m.Nanoseconds), Xattrs: m.Xattrs, Index: i,
		}
		if m.Sparse && m.Skip > maxSkip {
			b.Warn(m.Name, "too many sparse files before it")
			continue
		}
		switch m.Type {
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			e.Mode |= archive.TypeRegular
		case tar.TypeDir:
			e.Mode |= archive.TypeDir
		case tar.TypeSymlink:
			e.Mode |= archive.TypeSymlink
			e.Target, e.Size = m.Target, int64(len(m.Target))
		case tar.TypeChar:
			e.Mode |= archive.TypeChar
			e.Rdev, e.Size = m.Rdev, 0
		case tar.TypeBlock:
			e.Mode |= archive.TypeBlock
			e.Rdev, e.Size = m.Rdev, 0
		case tar.TypeFifo:
			e.Mode |= archive.TypeFIFO
			e.Size = 0
		case tar.TypeLink:
			b.Link(m.Name, m.Target)
			continue
		case tar.TypeXGlobalHeader:
			continue
		default:
			b.Warn(m.Name, fmt.Sprintf("unknown type %q", m.Type))
			continue
		}
		b.Add(m.Name, e)
	}
	return b.Tree()
}

// open gives a member's contents.
func (a *Archive) open(i int) (archive.Content, error) {
	m := &a.members[i]
	if m.Sparse {
		return newSparse(a.contents, m)
	}
	if m.Offset < 0 || m.Size < 0 || m.Offset > 1<<62-m.Size {
		return nil, errors.New("data beyond the archive's end")
	}
	return plain{io.NewSectionReader(a.contents, m.Offset, m.Size)}, nil
}

// plain is a member whose data is one range.
type plain struct{ io.ReaderAt }

func (plain) Close() error { return nil }
