//go:build !linux

package mmap

import "os"

// memoryFile returns a file without a name.
func memoryFile() (*os.File, error) {
	f, err := os.CreateTemp("", "sluice-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
