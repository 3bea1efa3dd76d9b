package estargz

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// tarChunk is the size of the chunks that an uncompressed layer is cut into.
const tarChunk = 1 << 20

// tar puts an uncompressed layer on top, of which only the headers are read
// now.
func (m *merger) tar(ctx context.Context, l *Layer) error {
	in := &position{r: l.Tar}
	t := tar.NewReader(in)
	var entries []tocEntry
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return bad("layer as a tar archive: %v", err)
		}
		if len(entries) == maxZFiles {
			return bad("more than %d files", maxZFiles)
		}
		e, ok, err := tarEntry(h, in.at)
		if err != nil {
			return err
		}
		if ok {
			entries = append(entries, e)
		}
	}
	z := &zlayer{size: l.Size}
	z.blob = &storage.Blob{ID: l.ID, Index: len(m.blobs), Size: l.Size, DataSize: l.Size, Digester: storage.SHA256}
	z.spans = make([]zspan, max((l.Size+tarChunk-1)/tarChunk, 1))
	for i := range z.spans {
		z.spans[i].from = int64(i) * tarChunk
	}
	err := z.place(func(s *zspan, size int64) { s.chunk.Offset, s.chunk.Size = s.from, uint32(size) })
	if err == nil {
		err = m.layer(entries, z)
	}
	if err != nil {
		return err
	}
	z.finish()
	m.blobs = append(m.blobs, z.blob)
	return nil
}

// position knows how far an archive was read: package tar reads no more than
// the headers that it returns.
type position struct {
	r  io.ReadSeeker
	at int64
}

// Seek is how package tar passes over data.
func (p *position) Seek(off int64, whence int) (n int64, err error) {
	p.at, err = p.r.Seek(off, whence)
	return p.at, err
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.at += int64(n)
	return n, err
}

var tarTypes = map[byte]string{
	tar.TypeReg: "reg", tar.TypeCont: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

// tarEntry makes an entry of a header whose data is at off. It reports false
// for one that is no file.
func tarEntry(h *tar.Header, off int64) (e tocEntry, ok bool, err error) {
	e = tocEntry{
		Name: h.Name, Type: tarTypes[h.Typeflag], Size: h.Size, Offset: off, LinkName: h.Linkname, Mode: uint32(h.Mode),
		ModTime: h.ModTime.UTC().Format(time.RFC3339Nano), DevMajor: uint32(h.Devmajor), DevMinor: uint32(h.Devminor),
	}
	switch {
	case h.Uid < 0 || h.Gid < 0 || h.Uid > math.MaxUint32 || h.Gid > math.MaxUint32:
		return e, false, bad("%q: owner %d:%d", h.Name, h.Uid, h.Gid)
	case h.Typeflag == tar.TypeGNUSparse, h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != "":
		return e, false, bad("%q: sparse files are not supported in a layer that is read in place", h.Name)
	case e.Type == "":
		return e, false, nil
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	return e, true, nil
}
