package unpack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluicefs/sluice/image"
)

// Dir unpacks the image to the directory called name, which appears when it
// is complete; it must not exist yet, or be empty. Owners and devices need
// root, unless o.NoOwner.
func Dir(ctx context.Context, t image.Tree, name string, o Options) (r *Result, err error) {
	name, err = filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	switch list, err := os.ReadDir(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case len(list) > 0:
		return nil, fmt.Errorf("%s: is not empty", name)
	}
	u, err := newUnpacker(ctx, t, o)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	if err := u.dir(work); err != nil {
		return nil, errors.Join(err, removeAll(work))
	}
	if err := os.Rename(work, name); err != nil {
		return nil, errors.Join(err, removeAll(work))
	}
	return &u.result, nil
}

// removeAll removes a directory that may have directories in it that their
// owner may not write to.
func removeAll(name string) error {
	if err := os.RemoveAll(name); err == nil {
		return nil
	}
	_ = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(name)
}
