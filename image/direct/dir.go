package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Dir is a [storage.Backend] of the files of a directory, called by the ids
// of their blobs. No symbolic link leads out of it.
type Dir struct{ root *os.Root }

// OpenDir opens the directory called name.
func OpenDir(name string) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// ReadAt fills p with the bytes of blob from off on.
func (d *Dir) ReadAt(_ context.Context, blob string, p []byte, off int64) error {
	f, err := d.root.Open(blob)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadAt(p, off); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes of blob %s at %d: %w", len(p), blob, off, err)
	}
	return nil
}

// Size returns the bytes that blob has.
func (d *Dir) Size(_ context.Context, blob string) (int64, error) {
	st, err := d.root.Stat(blob)
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("blob %s: %w", blob, fs.ErrInvalid)
	}
	return st.Size(), nil
}
