//go:build !linux

package unpack

import "errors"

func (u *unpacker) dir(string) error {
	return errors.New("unpacking to a directory is supported on Linux only; unpack to a tar instead")
}
