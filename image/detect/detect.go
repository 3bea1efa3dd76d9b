// Package detect opens an image of any format that sluice reads, by looking
// at its first bytes.
package detect

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/internal/mmap"
)

// Options say how to open an image. The zero value is the default.
type Options struct {
	BlobID  string            // see rafs.Options
	Devices []erofs.BlobStore // see erofs.Options
}

// Open maps the image in the file called name: a bootstrap of RAFS v5 or v6,
// also inside a blob or a layer, or an EROFS file system.
func Open(name string, o *Options) (image.Tree, error) {
	if o == nil {
		o = &Options{}
	}
	m, err := mmap.Open(name)
	if err != nil {
		return nil, err
	}
	var t image.Tree
	err = m.Guarded(func() (err error) {
		t, err = open(m, name, o)
		return err
	})
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func open(m *mmap.Map, name string, o *Options) (image.Tree, error) {
	id := o.BlobID
	if id == "" {
		id = rafs.IDFromName(name)
	}
	t, err := metadata(m, id, o)
	if err != nil || t != nil {
		return t, err
	}
	inner, err := inside(m.Bytes())
	if err != nil {
		return nil, err
	}
	if t, err = metadata(inner, id, o); err != nil || t == nil {
		inner.Close()
		if err == nil {
			err = unknown("the image inside has no known magic number")
		}
		return nil, err
	}
	return t, m.Close()
}

func unknown(what string) error {
	return &image.FormatError{Format: "image", Offset: -1, What: what}
}

// metadata opens the metadata in m, or returns nil if its first bytes are of
// no known format.
func metadata(m *mmap.Map, id string, o *Options) (image.Tree, error) {
	b := m.Bytes()
	if rafs.Version(b) != 0 {
		return rafs.New(m, &rafs.Options{BlobID: id})
	}
	if len(b) > erofs.SuperOffset {
		if _, ok := erofs.ParseSuper(b[erofs.SuperOffset:]); ok {
			im, err := erofs.New(m, &erofs.Options{Devices: o.Devices})
			if err != nil {
				return nil, err // not a nil *Image in an interface
			}
			return im, nil
		}
	}
	return nil, nil
}

// inside maps the bootstrap that lies inside of b: at the end of a blob of
// RAFS, or as image/image.boot in a layer, a gzip-compressed tar.
func inside(b []byte) (*mmap.Map, error) {
	if len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b {
		return layer(b)
	}
	m, err := rafs.Bootstrap(bytes.NewReader(b), int64(len(b)))
	if errors.Is(err, rafs.ErrNoSection) {
		return nil, unknown("neither RAFS nor EROFS: no magic number is known")
	}
	if err != nil {
		return nil, unknown(err.Error())
	}
	return m, nil
}

// bootstrapFile is the name of the bootstrap in a layer.
const bootstrapFile = "image/image.boot"

// maxBootstrap is the largest bootstrap that the format allows, in bytes.
const maxBootstrap = 1 << 31

func layer(b []byte) (*mmap.Map, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, unknown(err.Error())
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil, unknown("the layer holds no " + bootstrapFile)
		}
		if err != nil {
			return nil, unknown(err.Error())
		}
		if path.Clean(h.Name) == bootstrapFile && h.Typeflag == tar.TypeReg {
			return mmap.Copy(t, maxBootstrap)
		}
	}
}
