package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Layer is a tar stream: plain, or compressed with gzip or zstd.
type Layer struct {
	Name string // for messages
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// TarFile returns the layer in the file at path.
func TarFile(path string) Layer {
	return Layer{path, func(context.Context) (io.ReadCloser, error) { return os.Open(path) }}
}

// Tars returns a source of layers, the lowest first. Each becomes a blob of
// its own; what upper layers remove is not in the bootstrap.
func Tars(layers ...Layer) Source { return tarSource(layers) }

type tarSource []Layer

func (s tarSource) load(ctx context.Context, b *builder) error {
	for i := range s {
		b.beginLayer()
		if err := s.layer(ctx, b, &s[i]); err != nil {
			return err
		}
		if err := b.endLayer(); err != nil {
			return err
		}
	}
	return nil
}

func (s tarSource) layer(ctx context.Context, b *builder, l *Layer) error {
	f, err := l.Open(ctx)
	if err != nil {
		return &Error{Op: "open", Path: l.Name, Err: bare(err)}
	}
	defer f.Close()
	in, raw, closeIn, err := b.contents(f)
	if err != nil {
		return &Error{Op: "read", Path: l.Name, Err: err}
	}
	defer closeIn()
	t := tarReader{
		b: b, raw: raw, r: tar.NewReader(in), layer: l.Name,
		over: overlayer{tree: b.tree, layer: b.layer, whiteouts: b.opt.Whiteouts},
	}
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := t.r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = t.entry(h)
		} else {
			err = &Error{Op: "read", Path: l.Name, Err: err}
		}
		if err != nil {
			return err
		}
	}
	// What follows the end of the archive is read as well: a pipe's writer
	// must not be cut off, and a wrong checksum of gzip shows there.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return &Error{Op: "read", Path: l.Name, Err: err}
	}
	if raw != nil {
		raw.end(b)
	}
	return nil
}

// contents returns the plain bytes of the layer in f. If they are the image's
// data where they are, raw is the same reader.
func (b *builder) contents(f io.Reader) (in io.Reader, raw inPlace, done func() error, err error) {
	if b.opt.TargzRef {
		z, err := b.newTargz(f)
		if err != nil {
			return nil, nil, nil, err
		}
		return z, z, z.borders.Close, nil
	}
	r, err := decompressed(f)
	if err != nil || !b.opt.Tarfs {
		return r, nil, func() error { return r.Close() }, err
	}
	t, err := b.newTarfs(r)
	if err != nil {
		return nil, nil, nil, errors.Join(err, r.Close())
	}
	return t, t, r.Close, nil
}

// decompressed returns the plain bytes of r, which it recognises by their
// start.
func decompressed(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// tarReader brings the entries of one archive into the image.
type tarReader struct {
	b     *builder
	r     *tar.Reader
	raw   inPlace // if the tar is the image's data, else nil
	layer string
	over  overlayer
}

// paxXattr begins the keys of extended attributes in PAX records.
const paxXattr = "SCHILY.xattr."

// stargzFiles are what an eStargz layer has in its root for its own use: the
// table of contents and the landmarks that end what is to be prefetched.
var stargzFiles = [...]string{"stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"}

func (t *tarReader) entry(h *tar.Header) error {
	if t.b.opt.Stargz && slices.Contains(stargzFiles[:], strings.TrimPrefix(path.Clean(h.Name), "/")) {
		return nil
	}
	where := t.layer + ": " + h.Name
	fail := func(err error) error {
		if e := (*Error)(nil); errors.As(err, &e) {
			return err
		}
		return &Error{Op: "read", Path: where, Err: err}
	}
	n := &inode{
		mode: uint32(h.Mode) & 0o7777, mtime: h.ModTime.Unix(), mtimeNsec: uint32(h.ModTime.Nanosecond()),
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > math.MaxUint32 || h.Gid > math.MaxUint32 {
		return fail(fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid))
	}
	n.uid, n.gid = uint32(h.Uid), uint32(h.Gid)
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		n.mode |= syscall.S_IFREG
		if strings.HasSuffix(h.Name, "/") {
			n.mode = n.mode&0o7777 | syscall.S_IFDIR // old archives know no directories
		}
	case tar.TypeDir:
		n.mode |= syscall.S_IFDIR
	case tar.TypeSymlink:
		n.mode |= syscall.S_IFLNK
		to := h.Linkname
		if len(to) > maxTarget || to == "" || strings.IndexByte(to, 0) >= 0 {
			return fail(fmt.Errorf("symbolic link with a target of %d bytes", len(to)))
		}
		n.extra().target = to
	case tar.TypeChar:
		n.mode |= syscall.S_IFCHR
	case tar.TypeBlock:
		n.mode |= syscall.S_IFBLK
	case tar.TypeFifo:
		n.mode |= syscall.S_IFIFO
	case tar.TypeLink:
		if err := t.over.link(h.Name, h.Linkname); err != nil {
			return fail(err)
		}
		return nil
	case tar.TypeXGlobalHeader:
		return nil
	default:
		t.b.opt.Warn(fmt.Sprintf("%s is left out: entries of type %q are not known", where, h.Typeflag))
		return nil
	}
	if n.isDevice() {
		if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
			return fail(fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor))
		}
		n.rdev = uint32(h.Devminor&0xff | h.Devmajor<<8 | h.Devminor&^0xff<<12)
	}
	var list []xattr
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			list = append(list, xattr{name, value})
		}
	}
	if err := t.over.setXattrs(n, list, where); err != nil {
		return err
	}
	if err := t.over.put(h.Name, n); err != nil {
		return fail(err)
	}
	if !n.isRegular() || h.Size == 0 {
		return nil
	}
	n.size = h.Size
	if t.raw != nil {
		if isSparse(h) {
			return fail(errors.New("a sparse file does not lie in the tar as it is: such an image can not show it"))
		}
		if err := t.raw.place(t.b, n, t.r, where); err != nil {
			return fail(err)
		}
		return nil
	}
	return t.b.stream(n, t.r, where)
}
