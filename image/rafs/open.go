package rafs

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/internal/mmap"
)

// Options say how to open a bootstrap. The zero value is the default.
type Options struct {
	// BlobID is the name of the blob that holds its own bootstrap and so can
	// not know it. If it is empty and the file's name up to the first dot is
	// a hex SHA-256, that is taken: so such bootstraps are called once
	// extracted.
	BlobID string
}

// Version returns the version of RAFS that the bootstrap starting with head
// has, 5 or 6, and 0 if it is none. 2048 bytes are enough of a head.
func Version(head []byte) int {
	le := binary.LittleEndian
	if len(head) >= 8 && le.Uint32(head) == magicV5 && le.Uint32(head[4:]) == versionV5 {
		return 5
	}
	if len(head) < erofs.SuperOffset {
		return 0
	}
	if s, ok := erofs.ParseSuper(head[erofs.SuperOffset:]); ok && s.Compat&erofs.CompatRAFS != 0 {
		return 6
	}
	return 0
}

// Open maps the bootstrap in the file called name: a *V6 or a *V5.
func Open(name string, o *Options) (image.Tree, error) {
	m, err := mmap.Open(name)
	if err != nil {
		return nil, err
	}
	id := ""
	if o != nil {
		id = o.BlobID
	}
	if id == "" {
		id = IDFromName(name)
	}
	t, err := New(m, &Options{BlobID: id})
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// New opens the bootstrap in m. The tree owns m if there is no error.
func New(m *mmap.Map, o *Options) (image.Tree, error) {
	if o == nil {
		o = &Options{}
	}
	version := 0
	if err := m.Guarded(func() error { version = Version(m.Bytes()); return nil }); err != nil {
		return nil, formatError("rafs", -1, "%v", err)
	}
	switch version {
	case 5:
		t, err := newV5(m)
		if err != nil {
			return nil, err // not a nil *V5 in an interface
		}
		return t, nil
	case 6:
		t, err := newV6(m, o.BlobID)
		if err != nil {
			return nil, err
		}
		return t, nil
	}
	return nil, formatError("rafs", -1, "no superblock of version 5 or 6")
}

// IDFromName returns what stands before the first dot of a file's name if it
// can be a SHA-256, else "".
func IDFromName(name string) string {
	id, _, _ := strings.Cut(filepath.Base(name), ".")
	if b, err := hex.DecodeString(id); err != nil || len(b) != 32 {
		return ""
	}
	return id
}
