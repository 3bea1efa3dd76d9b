package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// archive is an OCI layout in an uncompressed tar file, read in place: an
// index of its members says where each blob lies. It is a storage.Backend
// for the blobs.
type archive struct {
	file    *os.File
	members map[string]member // by path in the layout, "blobs/sha256/…"
}

type member struct{ offset, size int64 }

// maxMembers bounds the index; a layout has a handful of files per layer.
const maxMembers = 1 << 20

func isOCIArchive(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// The first few members tell; looking at all of a large tar would take
	// long.
	tr := tar.NewReader(f)
	for range 16 {
		h, err := tr.Next()
		if err != nil {
			return false
		}
		switch name := cleanMember(h.Name); {
		case name == "oci-layout", name == "index.json", strings.HasPrefix(name, "blobs/sha256/"):
			return true
		}
	}
	return false
}

func cleanMember(name string) string { return path.Clean(strings.TrimPrefix(name, "./")) }

func openArchive(name string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, members: map[string]member{}}
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err == nil && len(a.members) >= maxMembers {
			err = errors.New("too many members for an image")
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		pos, err := f.Seek(0, io.SeekCurrent) // the reader takes no more than headers
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		a.members[cleanMember(h.Name)] = member{pos, h.Size}
	}
}

func (a *archive) Close() error { return a.file.Close() }

// ReadFile returns a small member.
func (a *archive) ReadFile(name string, limit int64) ([]byte, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: a.file.Name() + "//" + name, Err: fs.ErrNotExist}
	}
	if m.size > limit {
		return nil, fmt.Errorf("%s//%s: %d bytes, at most %d expected", a.file.Name(), name, m.size, limit)
	}
	b := make([]byte, m.size)
	_, err := a.file.ReadAt(b, m.offset)
	return b, err
}

// Open returns a member for reading from its start.
func (a *archive) Open(name string) (io.ReadCloser, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: a.file.Name() + "//" + name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
}

// blobPath is the path of a blob in an OCI layout.
func blobPath(hex string) string { return "blobs/sha256/" + hex }

// ReadAt is that of storage.Backend.
func (a *archive) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	m, ok := a.members[blobPath(blob)]
	if !ok {
		return &fs.PathError{Op: "read blob", Path: blob, Err: fs.ErrNotExist}
	}
	if off < 0 || off > m.size || int64(len(p)) > m.size-off {
		return fmt.Errorf("read blob %s: %w", blob, io.ErrUnexpectedEOF)
	}
	_, err := a.file.ReadAt(p, m.offset+off)
	return err
}

// Size is that of storage.Backend.
func (a *archive) Size(_ context.Context, blob string) (int64, error) {
	m, ok := a.members[blobPath(blob)]
	if !ok {
		return 0, &fs.PathError{Op: "size of blob", Path: blob, Err: fs.ErrNotExist}
	}
	return m.size, nil
}
