//go:build !linux

package build

import (
	"context"
	"errors"
)

type fileID struct{}

func (d dirSource) scan(context.Context, *builder, *inode) (dirFiles, error) {
	return nil, &Error{Op: "read", Path: d.path, Err: errors.New("images of directories are made on Linux only")}
}

func (d dirSource) feed(*builder, *dirFile) error { return errors.ErrUnsupported }
