// Package detect opens an image of any format that sluice reads, by looking
// at its first bytes.
package detect

import (
	"fmt"

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
// or an EROFS file system.
func Open(name string, o *Options) (image.Tree, error) {
	if o == nil {
		o = &Options{}
	}
	m, err := mmap.Open(name)
	if err != nil {
		return nil, err
	}
	t, err := open(m, name, o)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func open(m *mmap.Map, name string, o *Options) (image.Tree, error) {
	b := m.Bytes()
	if rafs.Version(b) != 0 {
		id := o.BlobID
		if id == "" {
			id = rafs.IDFromName(name)
		}
		return rafs.New(m, &rafs.Options{BlobID: id})
	}
	if len(b) > erofs.SuperOffset {
		if _, ok := erofs.ParseSuper(b[erofs.SuperOffset:]); ok {
			return erofs.New(m, &erofs.Options{Devices: o.Devices})
		}
	}
	return nil, &image.FormatError{Format: "image", Offset: -1, What: "neither RAFS nor EROFS: no magic number is known"}
}
